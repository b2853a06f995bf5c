"""Quality of class probabilities: point values, paired bootstrap intervals, and the figures a report draws.

Everywhere ``y`` is (n,) int64 without missing labels (the caller drops them) and ``p`` is (n, K) probabilities.
A metric is None where it is not defined: ``qwk`` of a need, ``auc`` where one class only is present, all without rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

METRICS = ("auc", "accuracy", "qwk", "log_loss", "ece")
ECE_BINS = 15
SMALLEST = 1e-6
GAP_FLOOR = 0.01
BLOCK_CELLS = 2_000_000

Array = npt.NDArray[Any]
Values = dict[str, float | None]


@dataclass(frozen=True)
class _Judged:
    """What is fixed for one model on one set of rows, so that a resample costs a few vector operations."""

    classes: int
    y: Array
    loss: Array
    correct: Array
    predicted: Array
    error: Array
    rank: Array
    orders: tuple[Array, ...]
    ties: tuple[Array, ...]


def evaluate(y: Array, p: Array) -> Values:
    """{auc, accuracy, qwk, log_loss, ece}; auc of K > 2 classes is the mean of one-vs-rest (macro).

    ECE has 15 bins of equal mass over the confidence (top class of a tier, P(1) of a need): Nixon et al. 2019.
    """
    if not len(y):
        return dict.fromkeys(METRICS)
    rows = np.arange(len(y))[None]
    values = _metrics(_judge(y, p), rows)
    return {m: None if np.isnan(v[0]) else float(v[0]) for m, v in values.items()}


def bootstrap(
    y: Array, models: Mapping[str, Array], draws: int = 500, seed: int = 0
) -> dict[str, dict[str, tuple[float, float] | None]]:
    """95 % percentile interval of each metric and model; one resample serves all models, so they are paired."""
    return _intervals(_resampled(y, models, draws, seed))


def paired_difference(
    y: Array, p_a: Array, p_b: Array, draws: int = 500, seed: int = 0
) -> dict[str, dict[str, float] | None]:
    """Metric of a minus metric of b on the same rows, with its 95 % percentile interval over paired resamples."""
    return beside(y, p_a, p_b, draws, seed)[1]


def beside(
    y: Array, p_a: Array, p_b: Array, draws: int = 500, seed: int = 0
) -> tuple[dict[str, dict[str, tuple[float, float] | None]], dict[str, dict[str, float] | None]]:
    """``bootstrap`` of the models "a" and "b", and their ``paired_difference``, from one set of resamples."""
    drawn = _resampled(y, {"a": p_a, "b": p_b}, draws, seed)
    a, b = evaluate(y, p_a), evaluate(y, p_b)
    out: dict[str, dict[str, float] | None] = {}
    for metric in METRICS:
        at, bt, interval = a[metric], b[metric], _interval(drawn["a"][metric] - drawn["b"][metric])
        whole = None if at is None or bt is None or interval is None else (at - bt, *interval)
        out[metric] = None if whole is None else dict(zip(("difference", "low", "high"), whole, strict=True))
    return _intervals(drawn), out


def reliability(y: Array, p: Array, bins: int = 10) -> list[dict[str, float]]:
    """Bins of equal mass over the confidence: mean prediction, observed share and rows of each."""
    confidence, hit = _confidence(y, _clipped(p))
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return [
        {"predicted": float(confidence[i].mean()), "observed": float(hit[i].mean()), "rows": len(i)}
        for i in parts
        if len(i)
    ]


def confusion(y: Array, p: Array) -> list[list[int]]:
    """Rows by true class (first index) and most probable class (second)."""
    k = p.shape[1]
    counted: list[list[int]] = np.bincount(y * k + p.argmax(1), minlength=k * k).reshape(k, k).tolist()
    return counted


def gap_closed(federated: float | None, bank: float | None, pooled: float | None) -> float | None:
    """(federated - bank) / (pooled - bank); None where the gap is below .01 and hence noise, or a part is unknown."""
    if federated is None or bank is None or pooled is None or pooled - bank < GAP_FLOOR:
        return None
    return (federated - bank) / (pooled - bank)


def _clipped(p: Array) -> Array:
    p = np.clip(p, SMALLEST, 1)
    scaled: Array = p / p.sum(1, keepdims=True)
    return scaled


def _confidence(y: Array, p: Array) -> tuple[Array, Array]:
    if p.shape[1] > 2:
        return p.max(1), (p.argmax(1) == y).astype(float)
    return p[:, 1], (y == 1).astype(float)


def _judge(y: Array, p: Array) -> _Judged:
    raw = np.asarray(p, float)
    p = _clipped(raw)
    n, k = p.shape
    confidence, hit = _confidence(y, p)
    order = np.argsort(confidence, kind="stable")
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    # Ranks from what was passed in: dividing by the row's sum would break ties.
    orders = tuple(np.argsort(raw[:, c], kind="stable") for c in _columns(k))
    ties = tuple(np.flatnonzero(np.diff(raw[o, c], prepend=-1.0)) for o, c in zip(orders, _columns(k), strict=True))
    predicted = p.argmax(1)
    correct = (predicted == y).astype(float)
    return _Judged(k, y, -np.log(p[np.arange(n), y]), correct, predicted, (confidence - hit)[order], rank, orders, ties)


def _columns(classes: int) -> range:
    return range(classes) if classes > 2 else range(1, 2)


def _metrics(m: _Judged, rows: Array) -> dict[str, Array]:
    """Metrics of many resamples: rows (draws, n) positions -> metric -> (draws,), NaN where undefined."""
    draws, n = rows.shape
    counts = np.bincount((rows + np.arange(draws)[:, None] * n).ravel(), minlength=draws * n).reshape(draws, n)
    weights = counts.astype(float)
    return {
        "auc": _auc(m, weights),
        "accuracy": weights @ m.correct / n,
        "qwk": _kappa(m, weights) if m.classes > 2 else np.full(draws, np.nan),
        "log_loss": weights @ m.loss / n,
        "ece": _ece(m, rows),
    }


def _auc(m: _Judged, weights: Array) -> Array:
    """Mann-Whitney with multiplicities: the rows are sorted once, a resample is a weight for each row."""
    areas = []
    for c, order, ties in zip(_columns(m.classes), m.orders, m.ties, strict=True):
        w = weights[:, order]
        positive = (m.y[order] == c).astype(float)
        pos = np.add.reduceat(w * positive, ties, axis=1)
        neg = np.add.reduceat(w, ties, axis=1) - pos
        wins = (pos * (np.cumsum(neg, 1) - neg / 2)).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            areas.append(wins / (pos.sum(1) * neg.sum(1)))
    stacked = np.stack(areas)
    seen = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        mean: Array = np.where(seen, stacked, 0).sum(0) / seen.sum(0)
    return mean


def _kappa(m: _Judged, weights: Array) -> Array:
    """Cohen's kappa with quadratic weights (Cohen 1968)."""
    k = m.classes
    cells = np.eye(k * k)[m.y * k + m.predicted]
    table = (weights @ cells).reshape(-1, k, k)
    distance = (np.arange(k)[:, None] - np.arange(k)) ** 2
    expected = table.sum(2)[:, :, None] * table.sum(1)[:, None, :] / table.sum((1, 2))[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa: Array = 1 - (table * distance).sum((1, 2)) / (expected * distance).sum((1, 2))
    return kappa


def _ece(m: _Judged, rows: Array) -> Array:
    n = rows.shape[1]
    ordered = np.sort(m.rank[rows], axis=1)
    sizes = [len(part) for part in np.array_split(np.empty(n), min(ECE_BINS, n))]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    gaps: Array = np.abs(np.add.reduceat(m.error[ordered], starts, axis=1)).sum(1) / n
    return gaps


def _resampled(y: Array, models: Mapping[str, Array], draws: int, seed: int) -> dict[str, dict[str, Array]]:
    if not len(y):
        return {name: {m: np.empty(0) for m in METRICS} for name in models}
    judged = {name: _judge(y, p) for name, p in models.items()}
    blocks: dict[str, list[dict[str, Array]]] = {name: [] for name in models}
    for rows in _row_blocks(len(y), draws, seed):
        for name, model in judged.items():
            blocks[name].append(_metrics(model, rows))
    return {name: {m: np.concatenate([b[m] for b in bs]) for m in METRICS} for name, bs in blocks.items()}


def _row_blocks(n: int, draws: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // n)
    for start in range(0, draws, block):
        yield rng.integers(0, n, (min(block, draws - start), n))


def _intervals(drawn: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, tuple[float, float] | None]]:
    return {name: {m: _interval(v) for m, v in values.items()} for name, values in drawn.items()}


def _interval(values: Array) -> tuple[float, float] | None:
    seen = values[~np.isnan(values)]
    if not len(seen):
        return None
    low, high = np.percentile(seen, (2.5, 97.5))
    return float(low), float(high)
