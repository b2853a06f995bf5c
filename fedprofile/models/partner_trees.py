"""A partner's private boosted trees on randomised labels; they never leave the node except inside a masked score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.models.blending import labelled
from fedprofile.models.scores import centred_log_odds
from fedprofile.models.trees import TreeColumns, TreeConfig, Trees, fit_booster
from fedprofile.types import Table, Task, output_slices

Array = npt.NDArray[Any]
PARTNER = TreeConfig()
UNMIXED_FLOOR = 0.005


def partner_log_odds(
    table: Table,
    released: Mapping[str, Array],
    fold: Array,
    train: Array,
    tasks: tuple[Task, ...],
    flips: Mapping[str, Array | None],
    priors: Mapping[str, Array],
    seed: int,
) -> tuple[npt.NDArray[np.float32], dict[str, Trees]]:
    """Un-mixed, centred cumulative log-odds of every row, (n, C) float32, and by task the trees that say so.

    released: task -> (n,) randomised labels, -1 missing. fold: (n,) int, the same at every node; the booster of fold f
    never sees a row of fold f, which is its early-stopping set. Rows of ``train`` (positions or a mask) get the booster
    of their own fold, all others the mean. flips: task -> (K, K) P(released | true) or None for exact labels.
    priors: task -> (K,) un-mixed. Where a fold has no labelled row to fit or to hold out, the node has no
    information on that task and says so with zeros, and no trees.
    """
    rows = np.flatnonzero(train) if train.dtype == bool else train
    inside = np.zeros(len(table), bool)
    inside[rows] = True
    columns = TreeColumns.fit(table, rows)
    x = columns.matrix(table)
    slices = output_slices(tasks)
    out = np.zeros((len(table), sum(t.outputs for t in tasks)), np.float32)
    fitted: dict[str, Trees] = {}
    for task in tasks:
        y = released[task.name]
        if not _fittable(y, fold, rows):
            continue
        boosters = tuple(
            fit_booster(x, columns, y, task.classes, rows[fold[rows] != f], rows[fold[rows] == f], PARTNER, seed)
            for f in range(int(fold.max()) + 1)
        )
        fitted[task.name] = Trees(task.classes, columns, boosters)
        each = unmix(fitted[task.name].predict_each(x), flips[task.name])
        p = np.where(inside[:, None], each[fold, np.arange(len(table))], each.mean(0))
        out[:, slices[task.name]] = centred_log_odds(p, priors[task.name])
    return out, fitted


def unseen_log_odds(
    trees: Mapping[str, Trees],
    table: Table,
    tasks: tuple[Task, ...],
    flips: Mapping[str, Array | None],
    priors: Mapping[str, Array],
) -> npt.NDArray[np.float32]:
    """The same (n, C) of rows that no booster was trained on."""
    out = np.zeros((len(table), sum(t.outputs for t in tasks)), np.float32)
    for task, columns in output_slices(tasks).items():
        if task in trees:
            each = trees[task].predict_each(trees[task].columns.matrix(table))
            out[:, columns] = centred_log_odds(unmix(each, flips[task]).mean(0), priors[task])
    return out


def unmix(p: Array, flip: Array | None) -> Array:
    """Probabilities of true classes from those of released ones: clip(p M^-1, .005, 1), renormalised; (..., K)."""
    if flip is None:
        return p
    true = np.clip(p @ np.linalg.inv(flip), UNMIXED_FLOOR, 1)
    unmixed: Array = true / true.sum(-1, keepdims=True)
    return unmixed


def _fittable(y: Array, fold: Array, rows: Array) -> bool:
    counts = np.bincount(fold[labelled(rows, y)], minlength=int(fold.max()) + 1)
    return bool((counts > 0).all())
