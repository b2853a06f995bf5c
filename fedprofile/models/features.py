"""From a table to the network's inputs: quantile-normal scalars, piecewise-linear codes, one-hot levels (recipe 1.2).

A ``FeatureMap`` leaves the rows behind: a numeric column is kept as a cumulative distribution whose knots are
values shared by at least ``min_count`` rows, or the mean of the middle half of at least ``min_count``
neighbouring rows; a level is kept if it has that many rows. So no rare value sits in the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import DataError
from fedprofile.models.columns import ColumnCode, Distribution, Levels, column_from_json, numeric_code
from fedprofile.types import Table

Floats = npt.NDArray[np.float64]
_MAX_ATOMS = 128


@dataclass(frozen=True)
class FeatureMap:
    """A fitted table -> float32 map; ``columns`` in feature order, ``dropped`` were constant or empty."""

    columns: tuple[ColumnCode, ...] = field(repr=False)
    dropped: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of features d."""
        return sum(c.width for c in self.columns)

    def transform(self, table: Table) -> npt.NDArray[np.float32]:
        """(n, d) float32 without NaN; unseen levels go to the rare column, missing numbers to 0.

        Raises DataError if the table lacks a column.
        """
        out = np.empty((len(table), self.width), np.float32)
        at = 0
        for code in self.columns:
            if code.column not in table.columns:
                raise DataError("the table", "is absent but the model needs it", "Add it, empty if unknown.",
                                column=code.column)  # fmt: skip
            out[:, at : at + code.width] = code.encode(table.columns[code.column])
            at += code.width
        return out

    def to_json(self) -> dict[str, Any]:
        return {"version": 1, "columns": [c.to_json() for c in self.columns], "dropped": list(self.dropped)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FeatureMap:
        """The inverse of ``to_json``; ValueError for another version or an unknown column kind."""
        if data["version"] != 1:
            raise ValueError("this feature map was written by another version")
        return FeatureMap(tuple(column_from_json(c) for c in data["columns"]), tuple(data["dropped"]))

    @staticmethod
    def of(codes: Mapping[str, ColumnCode | None]) -> FeatureMap:
        """From column -> code, None where a column carries nothing."""
        return FeatureMap(
            tuple(c for c in codes.values() if c is not None), tuple(n for n, c in codes.items() if c is None)
        )


def fit_features(table: Table, rows: npt.NDArray[np.int64], bins: int = 8, min_count: int = 10) -> FeatureMap:
    """Fit recipe 1.2 on the rows at positions ``rows``, in the order numeric, then categorical columns.

    bins: pieces of the piecewise-linear code. min_count: rows that a stored value, knot or level must stand for.
    """
    codes: dict[str, ColumnCode | None] = {}
    for name in table.schema.numeric:
        codes[name] = _fit_numeric(name, np.asarray(table.columns[name][rows], np.float64), bins, min_count)
    for name in table.schema.categorical:
        codes[name] = _fit_levels(name, table.columns[name][rows], min_count)
    return FeatureMap.of(codes)


def _fit_numeric(name: str, x: Floats, bins: int, min_count: int) -> ColumnCode | None:
    missing = np.isnan(x)
    present = np.sort(x[~missing])
    distribution, distinct = compact_distribution(present, min_count)
    return numeric_code(name, bool(missing.any()), distribution, distinct, present, np.ones(len(present)), bins)


def _fit_levels(name: str, values: npt.NDArray[Any], min_count: int) -> ColumnCode | None:
    counts: dict[str | None, int] = {}
    for v in values:
        counts[v] = counts.get(v, 0) + 1
    kept = sorted((v for v, n in counts.items() if n >= min_count), key=lambda v: (v is None, v or ""))
    return Levels(name, tuple(kept)) if len(counts) > 1 and kept else None


def compact_distribution(x: Floats, min_count: int) -> tuple[Distribution, int]:
    """The distribution of sorted ``x`` (n,) in at most 257 knots, and how many distinct values ``x`` has.

    Exact (mid-ranks of ties included) where every value has ``min_count`` rows; elsewhere the error is at
    most half a group, max(min_count, n/128) rows. Rows that cannot fill a group keep their mass but no knot.
    """
    values, counts = np.unique(x, return_counts=True)
    size = max(min_count, -(-len(x) // _MAX_ATOMS))
    atoms = counts >= min_count
    if atoms.sum() > _MAX_ATOMS:
        atoms = counts >= size
    ends = np.cumsum(counts)
    knots: list[tuple[float, float, float]] = []
    start = 0
    for i in [*np.flatnonzero(atoms), len(values)]:
        stop = ends[i] - counts[i] if i < len(values) else len(x)
        knots += _group_knots(x[start:stop], start, size, min_count)
        if i < len(values):
            knots.append((values[i], stop, ends[i]))
            start = ends[i]
    return Distribution.of(knots, len(x)), len(values)


def _group_knots(run: Floats, start: int, size: int, min_count: int) -> list[tuple[float, float, float]]:
    """Point knots (value, rows below, rows up to) for a sorted run of rare values, ``size`` rows or more each."""
    out = []
    for part in np.array_split(np.arange(len(run)), len(run) // size) if len(run) >= size else []:
        cut = len(part) // 4
        # The middle half: one extreme row must not show through the mean of the outermost group.
        half = run[part[cut : len(part) - cut]]
        if half[0] == half[-1] and len(half) < min_count:
            continue  # the mean would be the rare value itself
        middle = start + part[0] + len(part) / 2
        out.append((float(half.mean()), middle, middle))
    return out
