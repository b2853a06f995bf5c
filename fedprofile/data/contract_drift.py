"""Drift of a column against the last snapshot: the population stability index over bins that the snapshot fixed.

PSI = Σ (p − q) ln(p / q) over bins, Siddiqi 2006: below 0.1 nothing, above 0.25 the table is another one. Two samples
of one population of sizes n and m give PSI · nm / (n + m) ~ χ² with (bins − 1) degrees of freedom (Yurdakul and
Naranjo 2020), so small tables show large values by chance: ``noise`` says how large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fedprofile.data.contract import Contract

if TYPE_CHECKING:
    import polars as pl

BINS = 10
_LEVELS = 50
_CHANCE = 0.999


@dataclass(frozen=True)
class Histogram:
    """Counts of one column: missing cells first. ``edges`` (inner, of numbers and dates) or ``levels`` name the bins.

    One of a snapshot holds values of rows and never leaves the home; ``registry.reference`` makes coarser ones.
    """

    counts: tuple[int, ...] = field(repr=False)
    edges: tuple[float, ...] = field(default=(), repr=False)
    levels: tuple[str, ...] = field(default=(), repr=False)

    @property
    def n(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Drift:
    """PSI of a column, and what chance alone exceeds once in a thousand times."""

    psi: float
    noise: float

    def over(self, limit: float) -> bool:
        return self.psi > max(limit, self.noise)


def histograms(frame: pl.DataFrame, contract: Contract) -> dict[str, Histogram]:
    """Fresh bins for every feature: deciles of numbers, the most frequent levels of a category and one for the rest.

    Dates move by themselves, so they are left out.
    """
    found = {}
    for column in contract.features:
        series = frame[column.name]
        if column.type == "category":
            top = series.drop_nulls().value_counts(sort=True)[column.name].head(_LEVELS)
            found[column.name] = _count(series, Histogram((), levels=tuple(sorted(top))))
        else:
            known = series.drop_nulls().to_numpy()
            edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.empty(0)
            found[column.name] = _count(series, Histogram((), edges=tuple(edges.tolist())))
    return found


def drift(before: Mapping[str, Histogram], frame: pl.DataFrame) -> dict[str, Drift]:
    """Drift of every column that the last snapshot had as well."""
    found = {}
    for name, old in before.items():
        if name not in frame.columns or not old.n or not len(frame):
            continue
        new = _count(frame[name], old)
        found[name] = moved(old, new)
    return found


def moved(old: Histogram, new: Histogram) -> Drift:
    """Drift between two histograms over the same bins, neither empty; bins that both leave empty do not count."""
    from scipy.stats import chi2

    used = [(a, b) for a, b in zip(old.counts, new.counts, strict=True) if a or b]
    chance = float(chi2.ppf(_CHANCE, max(1, len(used) - 1))) * (1 / old.n + 1 / new.n)
    return Drift(psi([a for a, _ in used], [b for _, b in used]), chance)


def psi(before: list[int], now: list[int]) -> float:
    """PSI of two histograms over the same k bins; half a row more in each bin keeps an empty one finite."""
    p, q = (np.asarray(c, dtype=np.float64) + 0.5 for c in (before, now))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def to_json(held: Mapping[str, Histogram]) -> dict[str, Any]:
    return {
        name: {"counts": list(h.counts), "edges": list(h.edges), "levels": list(h.levels)} for name, h in held.items()
    }


def from_json(data: Mapping[str, Any]) -> dict[str, Histogram]:
    return {n: Histogram(tuple(h["counts"]), tuple(h["edges"]), tuple(h["levels"])) for n, h in data.items()}


def _count(series: pl.Series, bins: Histogram) -> Histogram:
    known = series.drop_nulls()
    if bins.levels or series.dtype == "String":
        place = {level: i for i, level in enumerate(bins.levels)}
        index = np.array([place.get(v, len(place)) for v in known.to_list()], dtype=np.int64)
        width = len(place) + 1
    else:
        index = np.searchsorted(np.array(bins.edges), known.to_numpy(), side="left")
        width = len(bins.edges) + 1
    counts = np.bincount(index, minlength=width)
    return Histogram((series.null_count(), *counts.tolist()), bins.edges, bins.levels)
