"""The label owner's own models on its own columns and true labels; the same functions serve the pooled baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.models.blending import Blend, class_prior, fit_blend, log_loss
from fedprofile.models.features import FeatureMap, fit_features
from fedprofile.models.scores import centred_log_odds
from fedprofile.models.tabular_net import FittedNetwork, fit_network
from fedprofile.models.trees import TreeColumns, TreeConfig, Trees, fit_booster
from fedprofile.types import Schema, Table, Task, Weights, digest, output_slices

Array = npt.NDArray[Any]
Probabilities = dict[str, Array]

CANDIDATES = ("gbdt", "network")
FOLDS = 5
LARGE = 12_000
ALONE_LR, FOLD_LR = 0.03, 0.05


@dataclass(frozen=True)
class BankData:
    """table of n customers; labels task -> (n,) int64, -1 missing; train and valid are disjoint (n,) bool masks."""

    table: Table = field(repr=False)
    labels: Mapping[str, Array] = field(repr=False)
    train: npt.NDArray[np.bool_] = field(repr=False)
    valid: npt.NDArray[np.bool_] = field(repr=False)

    @property
    def large(self) -> bool:
        return int(self.train.sum()) > LARGE


@dataclass(frozen=True)
class Candidates:
    """One network for all tasks and boosted trees for each, on the columns of one table."""

    features: FeatureMap
    network: FittedNetwork
    trees: Mapping[str, Trees]

    def predict(self, table: Table) -> dict[str, Probabilities]:
        """{"gbdt": {task: (n, K)}, "network": {task: (n, K)}} float64."""
        gbdt = {task: trees.predict(table) for task, trees in self.trees.items()}
        return {"gbdt": gbdt, "network": self.network.predict(self.features.transform(table))}


@dataclass(frozen=True)
class BankModels:
    """Bank alone: per task a calibrated blend of network and trees, plus log-odds for the fusion.

    folds: task -> five boosters, of which the f-th never saw fold f. choice: task -> the candidate that is better on
    validation. Nothing is kept per customer: a customer's fold follows from the id.
    """

    tasks: tuple[Task, ...]
    fitted: Candidates
    folds: Mapping[str, Trees]
    priors: Mapping[str, tuple[float, ...]]
    blends: Mapping[str, Blend]
    choice: Mapping[str, str]

    @property
    def schema(self) -> Schema:
        """The columns that a table must have."""
        columns = next(iter(self.folds.values())).columns
        numeric = tuple(name for name in columns.names if name not in columns.levels)
        return Schema(numeric, tuple(name for name in columns.names if name in columns.levels))

    def predict(self, table: Table) -> Probabilities:
        """The bank-alone model: {task: (n, K)} float64."""
        found = self.candidates(table)
        return {t: blend.apply([found[c][t] for c in CANDIDATES]) for t, blend in self.blends.items()}

    def candidates(self, table: Table) -> dict[str, Probabilities]:
        """{"gbdt": {task: (n, K)}, "network": {task: (n, K)}} float64."""
        return self.fitted.predict(table)

    def log_odds(self, table: Table, train: npt.NDArray[np.bool_] | None = None) -> Array:
        """Cumulative centred log-odds b: (n, C) float64; out of fold for rows of ``train``, mean of folds elsewhere."""
        own, at = bank_folds(table), np.arange(len(table))
        inside = np.zeros(len(table), bool) if train is None else train
        out = np.empty((len(table), sum(t.outputs for t in self.tasks)))
        for task, part in output_slices(self.tasks).items():
            trees = self.folds[task]
            each = trees.predict_each(trees.columns.matrix(table))
            p = np.where(inside[:, None], each[own, at], each.mean(0))
            out[:, part] = centred_log_odds(p, np.array(self.priors[task]))
        return out

    def to_state(self) -> tuple[Weights, dict[str, Any]]:
        """Tensors of the network, and everything else as JSON values."""
        return self.fitted.network.state(), {
            "tasks": [[t.name, t.kind, t.classes] for t in self.tasks],
            "features": self.fitted.features.to_json(),
            "network": self.fitted.network.to_json(),
            "trees": {t: trees.to_json() for t, trees in self.fitted.trees.items()},
            "folds": {t: trees.to_json() for t, trees in self.folds.items()},
            "priors": {t: list(p) for t, p in self.priors.items()},
            "blends": {t: b.to_json() for t, b in self.blends.items()},
            "choice": dict(self.choice),
        }

    @staticmethod
    def from_state(weights: Weights, data: Mapping[str, Any]) -> BankModels:
        tasks = tuple(Task(*t) for t in data["tasks"])
        trees = {t: Trees.from_json(d) for t, d in data["trees"].items()}
        network = FittedNetwork.from_state(weights, data["network"])
        return BankModels(
            tasks=tasks,
            fitted=Candidates(FeatureMap.from_json(data["features"]), network, trees),
            folds={t: Trees.from_json(d) for t, d in data["folds"].items()},
            priors={t: tuple(p) for t, p in data["priors"].items()},
            blends={t: Blend.from_json(b) for t, b in data["blends"].items()},
            choice=dict(data["choice"]),
        )


def bank_folds(table: Table) -> npt.NDArray[np.int64]:
    """(n,) fold 0..4 of each customer, from a hash of the id."""
    return np.array([int.from_bytes(digest("bank-fold/1", i.encode())[:6]) % FOLDS for i in table.ids], np.int64)


def fit_bank(data: BankData, tasks: tuple[Task, ...], seed: int) -> BankModels:
    """Candidates on the training rows, blended per task on validation, and five-fold boosters for b.

    Raises DataError where a task has no labelled customer in some fold or in validation.
    """
    fitted = fit_candidates(data, tasks, seed)
    folds = fit_folds(data, tasks, seed)
    found = fitted.predict(data.table.take(data.valid))
    blends, choice = {}, {}
    for task in tasks:
        y = data.labels[task.name][data.valid]
        parts = [found[c][task.name] for c in CANDIDATES]
        blends[task.name] = fit_blend(parts, y, np.arange(len(y)))
        choice[task.name] = CANDIDATES[int(np.argmin([log_loss(y, p) for p in parts]))]
    priors = {t.name: tuple(class_prior(data.labels[t.name], data.train, t.classes).tolist()) for t in tasks}
    return BankModels(tasks, fitted, folds, priors, blends, choice)


def fit_candidates(data: BankData, tasks: tuple[Task, ...], seed: int) -> Candidates:
    """Network (all tasks together) and trees (each task) with early stopping on validation."""
    features = fit_features(data.table, np.flatnonzero(data.train))
    x = features.transform(data.table)
    network = fit_network(x, data.labels, tasks, data.train, data.valid, seed)
    config = alone_config(data)
    trees = {
        t.name: Trees.fit(data.table, data.labels[t.name], t.classes, data.train, data.valid, config, seed)
        for t in tasks
    }
    return Candidates(features, network, trees)


def fit_wide(
    table: Table, labels: Mapping[str, Array], tasks: tuple[Task, ...], train: Array, valid: Array, seed: int
) -> dict[str, Probabilities]:
    """Pooled baselines on a table with every party's columns: {"gbdt": ..., "network": ...} for all rows."""
    return fit_candidates(BankData(table, labels, train, valid), tasks, seed).predict(table)


def alone_config(data: BankData, feature_fraction: float = 0.5) -> TreeConfig:
    """Slow boosting; 31 leaves are tried as well where the bank has many training customers."""
    leaves = (7, 31) if data.large else (7,)
    return TreeConfig(leaves=leaves, lr=ALONE_LR, feature_fraction=feature_fraction, rounds=1500, patience=60)


def fit_folds(data: BankData, tasks: tuple[Task, ...], seed: int) -> dict[str, Trees]:
    """Per task five boosters, of which the f-th is fitted without fold f and stopped on it; training rows only."""
    config = TreeConfig(lr=FOLD_LR, rounds=1500, patience=60)
    columns = TreeColumns.fit(data.table, data.train)
    x, own = columns.matrix(data.table), bank_folds(data.table)
    folds = {}
    for task in tasks:
        y = data.labels[task.name]
        boosters = tuple(
            fit_booster(x, columns, y, task.classes, data.train & (own != f), data.train & (own == f), config, seed)
            for f in range(FOLDS)
        )
        folds[task.name] = Trees(task.classes, columns, boosters)
    return folds
