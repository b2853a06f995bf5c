"""Gradient-boosted trees (LightGBM) on a raw table, kept as text: no pickle, no value of a single customer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import DataError
from fedprofile.models.blending import SMALLEST, labelled
from fedprofile.types import Table

Array = npt.NDArray[Any]
RARE = 10


@dataclass(frozen=True)
class TreeConfig:
    """Boosting by validation log-loss: the best of ``leaves``, at most ``rounds`` trees, stop after ``patience``."""

    leaves: tuple[int, ...] = (7,)
    lr: float = 0.05
    min_child: int = 40
    l2: float = 5.0
    feature_fraction: float = 0.5
    bagging: float = 0.8
    rounds: int = 400
    patience: int = 30


@dataclass(frozen=True)
class TreeColumns:
    """How a table becomes a matrix: numbers as they are, categories as codes.

    levels: column -> names of levels with at least 10 rows. A rarer level, and one never seen, is missing (NaN);
    a missing category is a code of its own. ``extra`` counts numeric columns that the caller appends.
    """

    names: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    extra: int = 0

    @staticmethod
    def fit(table: Table, rows: Array, extra: int = 0) -> TreeColumns:
        """Levels from ``rows`` (positions or a mask) only."""
        levels = {}
        for name in table.columns:
            if name in table.categorical:
                names, counts = np.unique([v for v in table.columns[name][rows] if v is not None], return_counts=True)
                levels[name] = tuple(str(v) for v in names[counts >= RARE])
        return TreeColumns(tuple(table.columns), levels, extra)

    def matrix(self, table: Table, extra: Array | None = None) -> Array:
        """(n, columns + extra) float64. Raises DataError for a column that the table lacks."""
        for name in self.names:
            if name not in table.columns:
                what = "is absent but the model needs it"
                raise DataError("the table", what, "Add it, empty if unknown.", column=name)
        parts = [self._column(name, table.columns[name]) for name in self.names]
        if self.extra:
            if extra is None or extra.shape != (len(table), self.extra):
                raise ValueError(f"trees need {self.extra} extra columns for {len(table)} rows")
            parts += list(np.asarray(extra, float).T)
        return np.stack(parts, 1) if parts else np.empty((len(table), 0))

    @property
    def categorical(self) -> list[int]:
        return [i for i, name in enumerate(self.names) if name in self.levels]

    def _column(self, name: str, values: Array) -> Array:
        if name not in self.levels:
            return np.asarray(values, float)
        codes: dict[Any, float] = {level: float(i) for i, level in enumerate(self.levels[name])}
        codes[None] = float(len(codes))
        return np.array([codes.get(v, np.nan) for v in values], float)


@dataclass(frozen=True)
class Trees:
    """The mean of one or more boosters over the same columns."""

    classes: int
    columns: TreeColumns
    boosters: tuple[str, ...] = field(repr=False)

    @staticmethod
    def fit(
        table: Table,
        y: Array,
        classes: int,
        train: Array,
        valid: Array,
        config: TreeConfig,
        seed: int,
        extra: Array | None = None,
        start: Array | None = None,
    ) -> Trees:
        """y (n,) int64, -1 missing; train and valid are positions or masks; extra (n, e) float or None.

        start: (n, K) probabilities of another model, which the trees correct and ``predict`` has to be given again.
        Raises DataError where no labelled row is left to train or to validate on.
        """
        columns = TreeColumns.fit(table, train, 0 if extra is None else extra.shape[1])
        x = columns.matrix(table, extra)
        return Trees(classes, columns, (fit_booster(x, columns, y, classes, train, valid, config, seed, start),))

    def predict(self, table: Table, extra: Array | None = None, start: Array | None = None) -> Array:
        """(n, K) float64: mean probability over the boosters."""
        mean: Array = self.predict_each(self.columns.matrix(table, extra), start).mean(0)
        return mean

    def predict_each(self, x: Array, start: Array | None = None) -> Array:
        """(boosters, n, K) float64 on a matrix that ``columns`` made."""
        return np.stack([_predict(b, x, self.classes, start) for b in self._loaded])

    @cached_property
    def _loaded(self) -> list[Any]:
        import lightgbm

        return [lightgbm.Booster(model_str=text) for text in self.boosters]

    def to_json(self) -> dict[str, Any]:
        columns = self.columns
        return {
            "classes": self.classes,
            "names": list(columns.names),
            "levels": {name: list(levels) for name, levels in columns.levels.items()},
            "extra": columns.extra,
            "boosters": list(self.boosters),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Trees:
        levels = {name: tuple(found) for name, found in data["levels"].items()}
        columns = TreeColumns(tuple(data["names"]), levels, data["extra"])
        return Trees(data["classes"], columns, tuple(data["boosters"]))


def fit_booster(
    x: Array,
    columns: TreeColumns,
    y: Array,
    classes: int,
    train: Array,
    valid: Array,
    config: TreeConfig,
    seed: int,
    start: Array | None = None,
) -> str:
    """One booster on a ready matrix (n, d), as LightGBM's text; see ``Trees.fit`` for the rest."""
    import lightgbm as lgb

    fit, held = labelled(train, y), labelled(valid, y)
    if not len(fit) or not len(held):
        raise DataError("labels", "no labelled customer is left to fit or to validate trees on", "Bring more labels.")
    names, best = [f"c{i}" for i in range(x.shape[1])], None
    first = _margin(start, classes)
    for leaves in config.leaves:
        params = _params(config, leaves, classes, seed)
        data = lgb.Dataset(
            x[fit], y[fit], init_score=_rows(first, fit), feature_name=names, categorical_feature=columns.categorical,
            params=params,
        )  # fmt: skip
        check = lgb.Dataset(x[held], y[held], init_score=_rows(first, held), reference=data, params=params)
        stop = lgb.early_stopping(config.patience, verbose=False)
        model = lgb.train(params, data, config.rounds, valid_sets=[check], callbacks=[stop])
        loss = next(iter(model.best_score["valid_0"].values()))
        if best is None or loss < best[0]:
            best = (loss, model)
    if best is None:
        raise ValueError("TreeConfig.leaves is empty")
    return _without_ranges(best[1].model_to_string(num_iteration=best[1].best_iteration))


def _predict(booster: Any, x: Array, classes: int, start: Array | None) -> Array:
    if start is None:
        p = booster.predict(x, num_threads=1)
        return p if classes > 2 else np.stack([1 - p, p], 1)
    margin = booster.predict(x, raw_score=True, num_threads=1) + _margin(start, classes)
    z = margin if classes > 2 else np.stack([np.zeros(len(margin)), margin], 1)
    p = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def _margin(start: Array | None, classes: int) -> Array | None:
    """Where boosting begins, in LightGBM's raw scores: (n, K) log-probabilities, or (n,) log-odds of two classes."""
    if start is None:
        return None
    logs = np.log(np.clip(start, SMALLEST, 1))
    return np.asarray(logs if classes > 2 else logs[:, 1] - logs[:, 0])


def _rows(first: Array | None, rows: Array) -> Array | None:
    return None if first is None else first[rows]


def _without_ranges(text: str) -> str:
    """LightGBM writes each column's smallest and largest value, which are some customer's own."""
    line = re.search(r"^feature_infos=(.*)$", text, re.MULTILINE)
    if line is None:
        raise ValueError("LightGBM's model text has no feature_infos line")
    infos = " ".join("[-inf:inf]" if info.startswith("[") else info for info in line[1].split(" "))
    return text[: line.start(1)] + infos + text[line.end(1) :]


def _params(config: TreeConfig, leaves: int, classes: int, seed: int) -> dict[str, Any]:
    goal = {"objective": "multiclass", "num_class": classes} if classes > 2 else {"objective": "binary"}
    return goal | {
        "num_leaves": leaves,
        "learning_rate": config.lr,
        "min_data_in_leaf": config.min_child,
        "lambda_l2": config.l2,
        "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.bagging,
        "bagging_freq": 1,
        "cat_smooth": 20,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
