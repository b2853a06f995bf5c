"""Fusion at the bank: its own columns and best log-odds, the opened sum of the partners' scores, and who knows whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.models.bank import BankData, BankModels, alone_config
from fedprofile.models.blending import fit_blend, labelled, log_loss
from fedprofile.models.fused import PARTS, FusedModel, Inputs, fusion_inputs
from fedprofile.models.linear import Linear, Scaler, fit_linear
from fedprofile.models.tabular_net import fit_network
from fedprofile.models.trees import Trees
from fedprofile.types import Task

__all__ = ["PARTS", "FusedModel", "fit_fusion"]

Array = npt.NDArray[Any]

TREE_SEEDS = 2
TREE_COLUMNS = 0.8


def fit_fusion(
    data: BankData,
    bank: BankModels,
    sums: Array,
    known: Array,
    tasks: tuple[Task, ...],
    seed: int,
    view_dropout: float = 0.15,
    parts: Sequence[str] = PARTS,
) -> FusedModel:
    """Fit on true labels of the training rows; blend, calibrate and gate on validation.

    sums: (n, C) opened sums of centred log-odds, 0 where unknown; known: (n, R) presence of each role, 0 = absent.
    view_dropout: probability that the network sees a training row without sums and presence.
    Raises ValueError for an unknown or empty ``parts``.
    """
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"parts must be some of {PARTS}")
    inputs = fusion_inputs(bank, data.table, sums, known, data.train)
    own_scale = Scaler.fit(inputs.own[data.train], clip=4.0)
    sums_scale = Scaler.fit(inputs.sums[data.train], clip=4.0, centre=False)
    network = None
    if "network" in parts:
        x, views = inputs.network(own_scale, sums_scale), sums.shape[1] + known.shape[1]
        network = fit_network(x, data.labels, tasks, data.train, data.valid, seed, views, view_dropout)
    linear = _fit_linear(data, inputs, tasks) if "linear" in parts else {}
    unblended = FusedModel(
        bank=bank,
        sums=sums.shape[1],
        known=known.shape[1],
        linear=linear,
        trees=_fit_trees(data, inputs, linear, tasks, seed) if "trees" in parts else {},
        network=network,
        own_scale=own_scale,
        sums_scale=sums_scale,
        blends={},
        used={},
    )
    return _calibrated(unblended, data, sums, known)


def _calibrated(model: FusedModel, data: BankData, sums: Array, known: Array) -> FusedModel:
    """Blend weights and temperature, then the gate: what is worse than bank alone on validation is not shipped."""
    table, sums, known = data.table.take(data.valid), sums[data.valid], known[data.valid]
    inputs = fusion_inputs(model.bank, table, sums, known)
    parts, alone, covered = model.parts(inputs), model.bank.predict(table), (known != 0).any(1)
    blends, used = {}, {}
    for task in model.tasks:
        y = data.labels[task.name][data.valid]
        blends[task.name] = blend = fit_blend(parts[task.name], y, np.arange(len(y)))
        routed = np.where(covered[:, None], blend.apply(parts[task.name]), alone[task.name])
        used[task.name] = log_loss(y, routed) <= log_loss(y, alone[task.name])
    return replace(model, blends=blends, used=used)


def _fit_linear(data: BankData, inputs: Inputs, tasks: tuple[Task, ...]) -> dict[str, Linear]:
    x, fitted = inputs.linear, {}
    for task in tasks:
        y = data.labels[task.name]
        rows = labelled(data.train, y)
        fitted[task.name] = fit_linear(x[rows], y[rows], task.classes)
    return fitted


def _fit_trees(
    data: BankData, inputs: Inputs, linear: dict[str, Linear], tasks: tuple[Task, ...], seed: int
) -> dict[str, Trees]:
    """Trees cannot add columns: where there is a linear fusion they start from it and say what it misses."""
    config, fitted = alone_config(data, TREE_COLUMNS), {}
    for task in tasks:
        start = linear[task.name].predict(inputs.linear) if linear else None
        each = [
            Trees.fit(
                data.table,
                data.labels[task.name],
                task.classes,
                data.train,
                data.valid,
                config,
                seed * 10 + i,
                inputs.boosted,
                start,
            )
            for i in range(TREE_SEEDS)
        ]
        fitted[task.name] = Trees(task.classes, each[0].columns, tuple(b for trees in each for b in trees.boosters))
    return fitted
