"""Shared features from summed counts: members of one role agree on bins and levels without showing a row.

The grid is universal, so it says nothing about the data: bucket 0 holds missing values, 505 holds zero, and
504 logarithmic steps a sign (12 an octave, centred on 2^-10 .. 2^31.9, clamped outside) hold the rest.
Centres, not edges, lie on powers of two, so that small whole numbers fall inside their bucket.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedprofile.models.columns import BUCKETS, ColumnCode, Distribution, Hashed, hash_buckets, numeric_code
from fedprofile.models.features import FeatureMap
from fedprofile.types import Schema, Table

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
BINS = 8
_PER_OCTAVE, _LOWEST, _STEPS = 12, -10, 504
_ZERO = _STEPS + 1


def grid_counts(table: Table, rows: npt.NDArray[np.int64]) -> dict[str, Counts]:
    """(1024,) int64 counts of the rows at positions ``rows``, by column."""
    counts = {}
    for name in table.schema.numeric:
        at = numeric_buckets(np.asarray(table.columns[name][rows], np.float64))
        counts[name] = np.bincount(at, minlength=BUCKETS).astype(np.int64)
    for name in table.schema.categorical:
        counts[name] = np.bincount(hash_buckets(table.columns[name][rows]), minlength=BUCKETS).astype(np.int64)
    return counts


def numeric_buckets(x: Floats) -> npt.NDArray[np.int64]:
    """(n,) numbers, NaN for missing -> (n,) buckets that grow with the number; missing is 0."""
    size = np.abs(np.nan_to_num(x, nan=0.0))
    with np.errstate(divide="ignore"):
        step = np.floor((np.log2(size) - _LOWEST) * _PER_OCTAVE + 0.5)
    bucket = _ZERO + np.sign(x) * (np.clip(step, 0, _STEPS - 1) + 1)
    return np.where(np.isnan(x), 0, np.where(size == 0, _ZERO, bucket)).astype(np.int64)


def bucket_bounds(bucket: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(m,) non-missing buckets -> their lower and upper bounds; both are 0 for the bucket of zero."""
    step = np.abs(bucket - _ZERO) - 1
    near = np.where(step <= 0, 0.0, 2.0 ** (_LOWEST + (step - 0.5) / _PER_OCTAVE))
    far = np.where(step < 0, 0.0, 2.0 ** (_LOWEST + (step + 0.5) / _PER_OCTAVE))
    negative = bucket < _ZERO
    return np.where(negative, -far, near), np.where(negative, -near, far)


def features_from_counts(
    schema: Schema,
    counts: Mapping[str, npt.NDArray[np.int64] | Floats],
    bins: int = BINS,
    min_count: int = 10,
) -> FeatureMap:
    """The feature map that every member derives from the summed ``counts`` alone.

    Ranks grow linearly inside a bucket. A run of buckets below ``min_count`` is merged until it has that many
    rows, else it keeps its mass but no knot; categories are hash buckets. A column whose values all fall in
    one bucket (a relative range below 6 %) cannot be told apart and is dropped.
    Raises ValueError if a column of ``schema`` has no (1024,) counts.
    """
    codes: dict[str, ColumnCode | None] = {}
    for name in schema.columns:
        if name not in counts or counts[name].shape != (BUCKETS,):
            raise ValueError(f"column {name!r} has no counts on the shared grid")
        whole = np.rint(counts[name]).astype(np.int64)
        if name in schema.categorical:
            kept = np.flatnonzero(whole >= min_count)
            codes[name] = (
                Hashed(name, tuple(int(b) for b in kept)) if np.count_nonzero(whole) > 1 and len(kept) else None
            )
        else:
            codes[name] = _numeric_from_counts(name, whole, bins, min_count)
    return FeatureMap.of(codes)


def widest(schema: Schema, levels: Mapping[str, int]) -> int:
    """The most features that ``features_from_counts`` makes; levels: distinct values of each categorical column."""
    hashed = sum(min(BUCKETS, levels[name]) + 1 for name in schema.categorical)
    return len(schema.numeric) * (BINS + 2) + hashed


def _numeric_from_counts(name: str, counts: Counts, bins: int, min_count: int) -> ColumnCode | None:
    present = counts.copy()
    present[0] = 0
    buckets = np.flatnonzero(present)
    low, high = bucket_bounds(buckets)
    cells = _merge_rare(buckets, counts[buckets], min_count)
    knots = _knots(cells, present, min_count) if len(cells) > 1 else []
    distribution = Distribution.of(knots, max(int(present.sum()), 1))
    rows = counts[buckets].astype(np.float64)
    return numeric_code(name, bool(counts[0] >= min_count), distribution, len(buckets), (low + high) / 2, rows, bins)


def _merge_rare(buckets: Counts, rows: Counts, min_count: int) -> list[tuple[int, int]]:
    """(first, last) buckets of cells that hold ``min_count`` rows; only runs of rare buckets are merged."""
    cells: list[tuple[int, int]] = []
    start, held = -1, 0
    for bucket, n in zip(buckets.tolist(), rows.tolist(), strict=True):
        start, held = (start, held + n) if held and n < min_count else (bucket, n)
        if held >= min_count:
            cells.append((start, bucket))
            held = 0
    return cells


def _knots(cells: list[tuple[int, int]], present: Counts, min_count: int) -> list[tuple[float, float, float]]:
    """(knot, rows below, rows up to) at the bounds of every cell; touching cells share a knot."""
    upto = np.cumsum(present)
    knots: list[tuple[float, float, float]] = []
    for first, last in cells:
        bounds = bucket_bounds(np.array([first, last]))
        low, high = float(bounds[0][0]), float(bounds[1][1])
        start, end = float(upto[first - 1]), float(upto[last])
        left, right = (start, start), (end, end)
        if low == high:
            left = (start, end)
        elif first == last and max(present[first - 1], present[last + 1]) < min_count:
            # Empty neighbours: one repeated value far more often than a narrow spread, and ties share a rank.
            left, right = (start, (start + end) / 2), ((start + end) / 2, end)
        if knots and knots[-1][0] >= low:
            left = (knots.pop()[1], left[1])
        knots.append((low, *left))
        if high > low:
            knots.append((high, *right))
    return knots
