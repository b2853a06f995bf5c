"""What a champion saw, coarse enough to travel in its bundle: cells of at least ``SMALLEST`` customers each.

A bundle leaves the label owner's home, so nothing about a single customer may be in it: no cell of a histogram holds
fewer than ``SMALLEST`` customers but none at all, no level of a category is named that fewer share, and inner edges are
rounded to a hundredth of their spread. What is too small to be told is counted elsewhere, so no difference tells it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.data.contract_drift import BINS, Histogram, from_json, moved, to_json
from fedprofile.governance.watch import Shift
from fedprofile.models.fusion import FusedModel
from fedprofile.types import Table, Task

Array = npt.NDArray[Any]
Scores = Mapping[str, Array]

SMALLEST = 20
FUSED, ALONE = "fused", "bank alone"
_CHANCE = 3.0902  # of a normal variable, exceeded once in a thousand times


@dataclass(frozen=True)
class Reference:
    """columns: of training customers; scores: of validation customers, whom the model did not learn from, by FUSED
    and ALONE (without any partner's scores), then by task.
    """

    columns: Mapping[str, Histogram] = field(repr=False)
    scores: Mapping[str, Mapping[str, Histogram]] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        scores = {which: to_json(held) for which, held in self.scores.items()}
        return {"smallest": SMALLEST, "columns": to_json(self.columns), "scores": scores}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Reference:
        return Reference(from_json(data["columns"]), {which: from_json(h) for which, h in data["scores"].items()})


def make_reference(model: FusedModel, table: Table, fused: Scores, train: Array, valid: Array) -> Reference:
    """From the label owner's n customers; fused: {task: (n, K)}; train, valid: (n,) bool.

    What fewer than ``SMALLEST`` customers stand behind is left out.
    """
    alone = model.predict(table.take(np.flatnonzero(valid)))
    columns = {name: coarse(values[train]) for name, values in table.columns.items()}
    scores = {
        FUSED: {t.name: coarse(level(t, fused[t.name][valid])) for t in model.tasks},
        ALONE: {t.name: coarse(level(t, alone[t.name])) for t in model.tasks},
    }
    return Reference(_known(columns), {which: _known(held) for which, held in scores.items()})


def level(task: Task, p: Array) -> npt.NDArray[np.float64]:
    """(n,) expected level of p (n, K): of a need, its probability."""
    expected: npt.NDArray[np.float64] = p @ np.arange(task.classes)
    return expected


def coarse(values: Array) -> Histogram:
    """A histogram of (n,) numbers (NaN missing) or texts (None missing) that says nothing about a few."""
    if values.dtype == object:
        bins = _levels(values)
        return Histogram(_hidden(list(count(values, bins).counts)), levels=bins.levels)
    bins = _deciles(values)
    missing, *counts = count(values, bins).counts
    edges = list(bins.edges)
    while (few := [i for i, c in enumerate(counts) if 0 < c < SMALLEST]) and edges:
        left = max(few[0] - 1, 0)  # the edge between the small cell and its neighbour, the lower one where there is
        counts[left : left + 2] = [counts[left] + counts[left + 1]]
        del edges[left]
    return Histogram(_hidden([missing, *counts]), edges=tuple(edges))


def _hidden(counts: list[int]) -> tuple[int, ...]:
    """Rows of small cells are counted in the largest: left out, their number would be what is missing from the sum."""
    kept = [c if c >= SMALLEST else 0 for c in counts]
    if any(kept):
        kept[kept.index(max(kept))] += sum(counts) - sum(kept)
    return tuple(kept)


def count(values: Array, bins: Histogram) -> Histogram:
    """The same bins, counted over other (n,) values: missing cells first, of texts every unnamed level last."""
    if values.dtype == object:
        place = {name: 1 + i for i, name in enumerate(bins.levels)}
        at = np.array([0 if v is None else place.get(v, 1 + len(place)) for v in values], dtype=np.int64)
        width = len(place) + 2
    else:
        at = np.where(np.isnan(values), 0, 1 + np.searchsorted(np.array(bins.edges), values, side="left"))
        width = len(bins.edges) + 2
    return Histogram(tuple(np.bincount(at, minlength=width).tolist()), bins.edges, bins.levels)


def shifts(reference: Reference, table: Table, scores: Scores, which: str, tasks: tuple[Task, ...]) -> Iterator[Shift]:
    """Every shift of a live table and its scores {task: (n, K)}; a column that the reference lacks is left out."""
    for task in tasks:
        if task.name in reference.scores[which]:
            yield _psi("score_psi", task.name, reference.scores[which][task.name], level(task, scores[task.name]))
    for name, old in reference.columns.items():
        values = table.columns[name]
        new = count(values, old)
        yield _psi("input_psi", name, old, values)
        yield _share("missing", name, old.counts[0], old.n, new.counts[0], new.n, either=True)
        if name in table.categorical:
            yield _share("unseen", name, old.counts[-1], old.n, new.counts[-1], new.n, either=False)


def _psi(kind: str, subject: str, old: Histogram, values: Array) -> Shift:
    new = count(values, old)
    found = moved(old, new)
    return Shift(kind, subject, found.psi, found.noise, old.n, new.n)


def _share(kind: str, subject: str, a: int, n: int, b: int, m: int, *, either: bool) -> Shift:
    """Difference of the shares b/m and a/n: its size, or how much larger the first is."""
    difference = b / m - a / n
    pooled = (a + b) / (n + m)
    noise = _CHANCE * math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return Shift(kind, subject, abs(difference) if either else max(difference, 0.0), noise, n, m)


def _deciles(values: Array) -> Histogram:
    known = values[~np.isnan(values)]
    if not len(known):
        return Histogram(())
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS))
    spread = float(edges[-1] - edges[0])
    if spread > 0:
        digits = 2 - math.floor(math.log10(spread))
        edges = np.unique([round(float(e), digits) for e in edges])
    return Histogram((), edges=tuple(edges.tolist()))


def _levels(values: Array) -> Histogram:
    names, counts = np.unique([v for v in values if v is not None], return_counts=True)
    return Histogram((), levels=tuple(str(n) for n in names[counts >= SMALLEST]))


def _known(held: Mapping[str, Histogram]) -> dict[str, Histogram]:
    return {name: h for name, h in held.items() if h.n}
