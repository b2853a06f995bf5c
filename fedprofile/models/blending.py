"""Arithmetic on class probabilities: convex log-pool with one temperature, log-loss, priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SMALLEST = 1e-5
PULL = 3e-4


@dataclass(frozen=True)
class Blend:
    """p proportional to exp(temperature * sum_m weights[m] log p_m); weights are >= 0 and sum to 1."""

    weights: tuple[float, ...]
    temperature: float

    def apply(self, parts: Sequence[Array]) -> Array:
        """Parts are (n, K) probabilities in the order they were fitted in; returns (n, K) float64."""
        pooled = np.tensordot(np.array(self.weights), _logs(parts), 1)
        blended: Array = np.exp(_log_softmax(self.temperature * pooled))
        return blended

    def to_json(self) -> dict[str, Any]:
        return {"weights": list(self.weights), "temperature": self.temperature}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Blend:
        return Blend(tuple(data["weights"]), data["temperature"])


def fit_blend(parts: Sequence[Array], y: Array, rows: Array) -> Blend:
    """Weights (softmax parametrised) and temperature by log-loss on ``rows``, pulled slightly to equal weights.

    The pull keeps a weight from reaching 1, so a part that is far better alone is taken alone.
    """
    from scipy.optimize import minimize

    rows = labelled(rows, y)
    logs, target = _logs([p[rows] for p in parts]), y[rows]
    m = len(parts)
    if not len(rows):
        return Blend((1 / m,) * m, 1.0)
    found = minimize(_objective, np.zeros(m + 1), args=(logs, target), jac=True, method="L-BFGS-B")
    blend = Blend(tuple(float(w) for w in _softmax(found.x[:m])), float(np.exp(found.x[m])))
    alone = [Blend(tuple(float(i == j) for i in range(m)), 1.0) for j in range(m)]
    here = [p[rows] for p in parts]
    return min([blend, *alone], key=lambda b: log_loss(target, b.apply(here)))


def log_loss(y: Array, p: Array) -> float:
    """Mean negative log-likelihood of rows with a label; probabilities are clipped at 1e-9."""
    seen = np.flatnonzero(y >= 0)
    return float(-np.log(np.clip(p[seen, y[seen]], 1e-9, 1)).mean()) if len(seen) else float("inf")


def labelled(rows: Array, y: Array) -> Array:
    """Positions among ``rows`` (positions or a mask) that have a label."""
    at = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows)
    seen: Array = at[y[at] >= 0]
    return seen


def class_prior(y: Array, rows: Array, classes: int) -> Array:
    """Share of each class among labelled rows: (K,) float64, with one count added to each so that none is 0."""
    counts = np.bincount(y[labelled(rows, y)], minlength=classes) + 1.0
    prior: Array = counts / counts.sum()
    return prior


def _logs(parts: Sequence[Array]) -> Array:
    logs: Array = np.log(np.clip(np.stack(parts), SMALLEST, 1))
    return logs


def _softmax(a: Array) -> Array:
    e = np.exp(a - a.max())
    weights: Array = e / e.sum()
    return weights


def _log_softmax(z: Array) -> Array:
    z = z - z.max(1, keepdims=True)
    logp: Array = z - np.log(np.exp(z).sum(1, keepdims=True))
    return logp


def _objective(at: Array, logs: Array, y: Array) -> tuple[float, Array]:
    """Penalised log-loss and its gradient in (softmax logits, log temperature)."""
    a, log_t = at[:-1], at[-1]
    w, t, n = _softmax(a), np.exp(log_t), len(y)
    pooled = np.tensordot(w, logs, 1)
    logp = _log_softmax(t * pooled)
    loss = -logp[np.arange(n), y].mean() + PULL * ((a**2).mean() + log_t**2)
    residual = np.exp(logp)
    residual[np.arange(n), y] -= 1
    residual /= n
    by_weight = t * (logs * residual).sum((1, 2))
    by_logit = w * (by_weight - w @ by_weight) + 2 * PULL * a / len(a)
    by_log_t = t * (pooled * residual).sum() + 2 * PULL * log_t
    return float(loss), np.append(by_logit, by_log_t)
