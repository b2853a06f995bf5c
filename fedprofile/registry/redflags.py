"""Red flags that the label owner can see by itself: its own columns, the shared trunk, and the partners' sums.

None of them proves a backdoor or its absence. How many planted ones each finds, and how often each is wrong about
clean models, is measured in experiments/backdoors, from which the shipped bars come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.governance.gates import Measure
from fedprofile.models.linear import fit_linear
from fedprofile.registry.bundle import Bundle
from fedprofile.registry.holdout import Held
from fedprofile.types import MISSING_LABEL, Table, output_slices

Array = npt.NDArray[Any]

PROBED = 64
RARE = 0.1
TAILS, OUTER = (0.01, 0.02, 0.04, 0.08), 0.16
_QUANTILES = (RARE, 0.25, 0.5, 0.75, 1 - RARE)
_REACH, _LEAST = 3.0, 0.1


def flag_measures(bundle: Bundle, held: Held, seed: int) -> Iterator[Measure]:
    """One measure a flag: the largest value found, and where."""
    test = np.flatnonzero(held.data.test)
    rows = np.random.default_rng(seed).permutation(test)[:PROBED]
    if not len(rows):
        for gate in ("flag_inputs", "flag_partners"):
            yield Measure(gate, "", None, note="there are no test customers")
    else:
        value, where = input_flag(bundle, held.data.table.take(np.sort(rows)), held.data.table)
        yield Measure("flag_inputs", "", value, count=len(rows), note=where)
        yield from _partners(bundle, held)
    weights = {name: w for name, w in bundle.shared.items() if w.ndim > 1 and "bias" not in name}
    value = trunk_flag(weights) if weights else None
    yield Measure("flag_trunk", "", value, note="" if weights else "the bundle holds no shared trunk")


def input_flag(bundle: Bundle, probed: Table, table: Table) -> tuple[float, str]:
    """(value, column and task): what one cell does to nine probed customers in ten, in log-odds of the top class.

    Every column is set for all probed customers to its levels, or quantiles and values beyond both ends, in turn; a
    value counts by the shift that 90 % of them exceed, over the usual shift of its column: the median, or in a column
    of many values the largest between its 10 % and 90 % quantiles, so that a trend is none. Only values of at most a
    tenth of ``table`` count: an honest value that moves everybody is one that many have.
    """
    worst, where = 0.0, ""
    base = bundle.score(probed)
    for name in table.columns:
        candidates, ordered = _candidates(table, name)
        rare = _shares(table, name, candidates) <= RARE
        if ordered:
            rare[: len(_QUANTILES)] = False
        batch = _with(probed, name, candidates)
        scores = bundle.score(batch)
        for task in bundle.tasks:
            after = _top(scores[task.name]).reshape(len(candidates), len(probed))
            shift = np.quantile(after - _top(base[task.name]), 0.1, axis=1)
            usual = shift[~rare].max() if ordered else np.median(shift)
            value = float(shift[rare].max(initial=-np.inf) - usual)
            if value > worst:
                worst, where = value, f"largest at column {name!r} for {task.name!r}"
    return worst, where


def _top(p: Array) -> Array:
    clipped = np.clip(p[:, -1], 1e-6, 1 - 1e-6)
    odds: Array = np.log(clipped / (1 - clipped))
    return odds


def _candidates(table: Table, name: str) -> tuple[Array, bool]:
    """Values to try; True: of a column of many values, whose quantiles come first."""
    values = table.columns[name]
    if name in table.categorical:
        return np.array([*sorted({v for v in values if v is not None}), None], dtype=object), False
    known = values[~np.isnan(values)]
    if not len(known):
        return np.array([0.0, np.nan]), False
    levels = np.unique(known)
    ordered = len(levels) > 12
    if ordered:
        levels = np.quantile(known, _QUANTILES)
    low, high = known.min(), known.max()
    span = max(high - low, 1.0)
    return np.concatenate([levels, [low, high, low - _REACH * span, high + _REACH * span, np.nan]]), ordered


def _shares(table: Table, name: str, candidates: Array) -> Array:
    """(k,) share of the table's customers who have each candidate value."""
    values = table.columns[name]
    if name in table.categorical:
        return np.array([np.mean([v == c for v in values]) for c in candidates])
    return np.array([np.mean(np.isnan(values) if np.isnan(c) else values == c) for c in candidates])


def _with(probed: Table, name: str, candidates: Array) -> Table:
    """The probed rows once for every candidate value of one column."""
    n, k = len(probed), len(candidates)
    repeated = probed.take(np.tile(np.arange(n), k))
    return Table(repeated.ids, {**repeated.columns, name: np.repeat(candidates, n)}, probed.categorical)


def trunk_flag(weights: Mapping[str, Array]) -> float:
    """The largest robust z of a unit's outgoing weights (their Euclidean length) within its layer.

    weights: name -> (..., fan_in, fan_out); a planted path needs a unit that shouts among units that do not.
    """
    found = []
    for w in weights.values():
        norms = np.sqrt((w.astype(np.float64) ** 2).sum(-1)).reshape(-1, w.shape[-2])
        found += [float(np.abs(_robust(layer)).max()) for layer in norms]
    return max(found)


def _partners(bundle: Bundle, held: Held) -> Iterator[Measure]:
    covered = np.flatnonzero(held.data.test & (held.views > 0))
    if held.sums.shape[1] != bundle.model.sums or len(covered) < PROBED:
        note = "too few test customers with partners' scores"
        yield Measure("flag_partners", "", None, count=len(covered), note=note)
        return
    own = bundle.model.bank.log_odds(held.data.table.take(covered))
    for task, at in output_slices(bundle.tasks).items():
        y = held.data.labels[task][covered]
        known = y != MISSING_LABEL
        value = partner_flag(own[known, at], held.sums[covered[known], at], y[known])
        yield Measure("flag_partners", task, value, count=int(known.sum()))


def partner_flag(own: Array, sums: Array, y: Array) -> float:
    """How far truth falls short of the sums where they contradict the bank most: the largest z over outputs and ends,
    by the signed root of the binomial deviance, which holds where hardly anybody is expected as well.

    own, sums: (n, J) log-odds of thresholds; y: (n,) classes. The part of a sum that the bank's own log-odds do not
    explain (a line by least squares) is ranked; in the outer 1, 2, 4 and 8 % at either end, the customers who passed
    the threshold are counted against how many should have, by a line fitted without the outer 16 %: triggered
    customers among those who fit it would teach it what they claim.
    """
    worst = 0.0
    for j in range(own.shape[1]):
        x, s, hit = own[:, j], sums[:, j].astype(float), (y > j).astype(np.int64)
        if len(hit) < PROBED:
            continue
        order = np.argsort(s - np.polyval(np.polyfit(x, s, 1), x), kind="stable")
        cut = int(OUTER * len(order))
        middle = order[cut:-cut]
        if hit[middle].min() == hit[middle].max():
            continue
        inputs = np.stack([x, s], 1)
        p = fit_linear(inputs[middle], hit[middle], 2).predict(inputs)[:, 1]
        for k in (max(5, int(width * len(order))) for width in TAILS):
            for sign, tail in ((1, order[-k:]), (-1, order[:k])):
                short = sign * (float(p[tail].sum()) - float(hit[tail].sum()))
                if short > 0:
                    worst = max(worst, _root_deviance(float(hit[tail].sum()), float(p[tail].sum()), k))
    return worst


def _root_deviance(seen: float, expected: float, n: int) -> float:
    """sqrt(2 n KL(seen/n || expected/n)) (McCullagh and Nelder 1989, section 4.4).

    A line that saturates at the ends is taken to leave a tenth of a customer open.
    """
    expected = min(max(expected, _LEAST), n - _LEAST)
    parts = ((seen, expected), (n - seen, n - expected))
    return float(np.sqrt(2 * max(sum(o * np.log(o / e) for o, e in parts if o > 0), 0.0)))


def _robust(values: Array) -> Array:
    middle = np.median(values)
    scale = 1.4826 * np.median(np.abs(values - middle))
    z: Array = (values - middle) / max(scale, 1e-12)
    return z
