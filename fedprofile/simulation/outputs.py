"""A file that a run leaves beside its report: the test customers' predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedprofile.label_owner.evaluate import Fusion, Probabilities
from fedprofile.node.home import NodeHome
from fedprofile.types import Task


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
