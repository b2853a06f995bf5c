"""Files a run leaves beside its report: what the bundle says of itself, and the test customers' predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedprofile.data.federation import Federation
from fedprofile.label_owner.evaluate import Fusion, Probabilities
from fedprofile.node.home import NodeHome
from fedprofile.types import RunPlan, Task


def bundle_meta(
    plan: RunPlan, federation: Federation, fusion: Fusion, outcome: dict[str, Any], config_sha256: str
) -> dict[str, Any]:
    """Public facts about how the model was made; no path, no value of a row."""
    return {
        "id": federation.id_column,
        "roles": list(fusion.data.roles),
        "plan": plan.hash.hex(),
        "data": federation.digest.hex(),
        "config_sha256": config_sha256,
        "label_eps": plan.label_eps,
        "encoder_digests": outcome["encoder_digests"],
    }


def write_predictions(
    path: Path, fusion: Fusion, models: Mapping[str, Probabilities], tasks: tuple[Task, ...], owner: NodeHome
) -> None:
    """Test customers only, by a pseudonym that only the label owner's secret can link to an id.

    Columns: ``covered`` (the score sum was used), ``<task>.label`` (-1 = unknown), ``<task>.<model>.p<k>``.
    """
    import polars as pl

    test = np.flatnonzero(fusion.data.test)
    key = owner.derive("prediction-pseudonym")
    columns: dict[str, Any] = {
        "pseudonym": [
            hashlib.blake2b(str(i).encode(), key=key, digest_size=16).hexdigest() for i in fusion.data.table.ids[test]
        ]
    }
    columns["covered"] = (fusion.data.known[test] != 0).any(1)
    for task in tasks:
        columns[f"{task.name}.label"] = fusion.data.labels[task.name][test]
        for model, p in models.items():
            for k in range(task.classes):
                columns[f"{task.name}.{model}.p{k}"] = p[task.name][test, k]
    pl.DataFrame(columns).write_parquet(path)
