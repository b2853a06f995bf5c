"""Judging on test customers, and the report of a run as ``fedprofile.report.schema`` describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedprofile.label_owner.evaluate import Fusion, Probabilities
from fedprofile.models import metrics
from fedprofile.models.blending import log_loss
from fedprofile.types import MISSING_LABEL, Task

SKIPPED = "baselines=none skipped it"
DEPLOYED = "it takes the tables of several parties, which only a simulation has"
UNDEFINED = "the test customers do not hold every class, so no AUC is defined"
NO_GAIN = "baselines.gain_by_partner=false skipped it"
NOISE = "the gap between bank alone and the better pooled model is below .01 AUC, within noise"


class Compared(Protocol):
    """What a simulation compares the federated model with: probabilities (n, K) by task, of all customers.

    ``without``: role -> the fusion refitted without that role's scores.
    """

    @property
    def pooled_network(self) -> Probabilities: ...
    @property
    def pooled_gbdt(self) -> Probabilities: ...
    @property
    def members_alone(self) -> Probabilities: ...
    @property
    def without(self) -> Mapping[str, Probabilities]: ...


def judge_tasks(
    fusion: Fusion,
    baselines: Compared | None,
    tasks: tuple[Task, ...],
    draws: int,
    seed: int,
    absent: str = SKIPPED,
) -> dict[str, dict[str, Any]]:
    """Section ``tasks`` of the report; ``absent`` says why there are no baselines where there are none."""
    return {task.name: _judge(task, fusion, baselines, draws, seed, absent) for task in tasks}


def _judge(
    task: Task, fusion: Fusion, baselines: Compared | None, draws: int, seed: int, absent: str
) -> dict[str, Any]:
    name, labels = task.name, fusion.data.labels[task.name]
    test = fusion.data.test & (labels != MISSING_LABEL)
    y = labels[test]
    every = compared_models(fusion, baselines)
    found = {model: p[name][test] for model, p in every.items()}
    intervals = metrics.bootstrap(y, found, draws, seed)
    models: dict[str, Any] = dict.fromkeys(
        ("bank_alone", "members_alone", "federated", "pooled_network", "pooled_gbdt")
    )
    for model, p in found.items():
        known = {m: list(i) for m, i in intervals[model].items() if i is not None}
        models[model] = {**metrics.evaluate(y, p), "intervals": known}
    models["bank_alone"]["chosen"] = fusion.bank.choice[name]
    best = _best_pooled(task, fusion, baselines)
    pooled = models[best]["auc"] if best else None
    closed = metrics.gap_closed(models["federated"]["auc"], models["bank_alone"]["auc"], pooled)
    return {
        "kind": task.kind,
        "classes": task.classes,
        "levels": _levels(task),
        "test_customers": int(test.sum()),
        "models": models,
        "reasons": _reasons(models, baselines, absent),
        "gap_closed": closed,
        "gap_closed_reason": None if closed is not None else _why_no_gap(baselines, models["federated"]["auc"], absent),
        "best_pooled": best,
        "federated_minus_bank": _minus(y, found, "bank_alone", draws, seed),
        "federated_minus_members": _minus(y, found, "members_alone", draws, seed),
        "confusion": metrics.confusion(y, found["federated"]),
        "reliability": {m: _bins(y, p) for m, p in found.items() if m in ("bank_alone", "federated", best)},
        "gain_by_partner": _gain_by_partner(y, name, test, found["federated"], baselines, draws, seed),
    }


def _why_no_gap(baselines: Compared | None, auc: float | None, absent: str) -> str:
    if baselines is None:
        return absent
    return NOISE if auc is not None else UNDEFINED


def _reasons(models: Mapping[str, Any], baselines: Compared | None, absent: str) -> dict[str, str]:
    if baselines is None:
        return dict.fromkeys([*(m for m in models if models[m] is None), "gain_by_partner"], absent)
    return {} if baselines.without else {"gain_by_partner": NO_GAIN}


def compared_models(fusion: Fusion, baselines: Compared | None) -> dict[str, Probabilities]:
    """Probabilities (n, K) by model and task, of all the label owner's customers."""
    found = {"bank_alone": fusion.bank_alone, "federated": fusion.federated}
    if baselines is not None:
        found |= {
            "members_alone": baselines.members_alone,
            "pooled_network": baselines.pooled_network,
            "pooled_gbdt": baselines.pooled_gbdt,
        }
    return found


def _best_pooled(task: Task, fusion: Fusion, baselines: Compared | None) -> str | None:
    """The better pooled model on validation, never on test."""
    if baselines is None:
        return None
    labels = fusion.data.labels[task.name]
    rows = fusion.data.valid & (labels != MISSING_LABEL)
    pooled = {"pooled_network": baselines.pooled_network, "pooled_gbdt": baselines.pooled_gbdt}
    return min(pooled, key=lambda m: log_loss(labels[rows], pooled[m][task.name][rows]))


def _minus(
    y: npt.NDArray[np.int64], found: Mapping[str, npt.NDArray[np.float64]], other: str, draws: int, seed: int
) -> dict[str, Any] | None:
    if other not in found:
        return None
    paired = metrics.paired_difference(y, found["federated"], found[other], draws, seed)
    return {m: d for m, d in paired.items() if d is not None}


def _bins(y: npt.NDArray[np.int64], p: npt.NDArray[np.float64]) -> list[dict[str, float]]:
    return [
        {"predicted": b["predicted"], "observed": b["observed"], "count": b["rows"]} for b in metrics.reliability(y, p)
    ]


def _gain_by_partner(
    y: npt.NDArray[np.int64],
    task: str,
    test: npt.NDArray[np.bool_],
    federated: npt.NDArray[np.float64],
    baselines: Compared | None,
    draws: int,
    seed: int,
) -> dict[str, Any] | None:
    if baselines is None or not baselines.without:
        return None
    gains = {}
    for role, without in baselines.without.items():
        drop = metrics.paired_difference(y, federated, without[task][test], draws, seed)["auc"]
        if drop is not None:
            gains[role] = {"auc_drop": drop["difference"], "low": drop["low"], "high": drop["high"]}
    return gains


def _levels(task: Task) -> list[str] | None:
    if task.kind != "ordinal" or task.classes != 3:
        return None
    return ["mass 大众", "potential 潜力", "high-net-worth 高净值"]
