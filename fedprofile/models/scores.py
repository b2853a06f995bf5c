"""What a node says about a customer: centred log-odds, and how much they are worth (numpy only; recipe 1.5)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedprofile.aggregation import SCORE_CLIP, gain_weight
from fedprofile.types import MISSING_LABEL, Task, output_slices

Array = npt.NDArray[np.float64] | npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
_CLIP = 1e-4
_LEAST_GAIN = 1e-4
_TINY = 1e-7


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return np.log(clipped) - np.log1p(-clipped)


def _above(p: Array) -> Floats:
    """(..., K) class probabilities -> (..., K-1) P(y > j)."""
    tail: Floats = 1 - np.cumsum(p, -1, dtype=np.float64)[..., :-1]
    return tail


def centred_log_odds(p: Array, prior: Array) -> Floats:
    """(n, K) probabilities and (K,) prior -> (n, K-1) logit P(y > j | x) - logit P(y > j); 0 says nothing."""
    return _logit(_above(p)) - _logit(_above(prior))


def class_probabilities(log_odds: Array, prior: Array) -> Floats:
    """The inverse of ``centred_log_odds``: (n, K-1) -> (n, K), rows sum to one, none below 1e-6 before scaling.

    Holds for averages of several models' log-odds too: they stay monotone in j.
    """
    above = 1 / (1 + np.exp(-(np.asarray(log_odds, np.float64) + _logit(_above(prior)))))
    edge = np.ones((len(above), 1))
    p = np.clip(-np.diff(np.hstack([edge, above, 0 * edge]), axis=1), 1e-6, 1)
    scaled: Floats = p / p.sum(1, keepdims=True)
    return scaled


def noisy_log_loss(p: Array, released: npt.NDArray[np.int64], flip: Array | None) -> float:
    """Mean corrected log-loss (nats) of (n, K) probabilities on released labels (n,); -1 is left out, 0 if all are."""
    rows = np.flatnonzero(released != MISSING_LABEL)
    q = (p if flip is None else p @ flip)[rows, released[rows]].astype(np.float64)
    return float(-np.log(q + _TINY).mean()) if len(rows) else 0.0


def noisy_gain(log_odds: Array, released: npt.NDArray[np.int64], prior: Array, flip: Array | None) -> float:
    """Prior's log-loss minus the model's, both on released labels; at least 1e-4 (nats a row).

    log_odds (n, K-1) out of fold; released (n,) with -1 unknown; flip (K,K) P(released | true) or None.
    """
    known = released != MISSING_LABEL
    base = np.broadcast_to(np.asarray(prior, np.float64), (int(known.sum()), len(prior)))
    own, y = class_probabilities(log_odds[known], prior), released[known]
    return max(noisy_log_loss(base, y, flip) - noisy_log_loss(own, y, flip), _LEAST_GAIN)


def weigh(
    log_odds: npt.NDArray[np.float32],
    gains: Mapping[str, float],
    means: Mapping[str, float],
    tasks: tuple[Task, ...],
) -> npt.NDArray[np.float32]:
    """(m, C) log-odds times sqrt(gain / mean gain) a task, clipped to +-SCORE_CLIP."""
    weighed = log_odds.copy()
    for name, columns in output_slices(tasks).items():
        weighed[:, columns] *= gain_weight(gains[name], means[name])
    return np.clip(weighed, -SCORE_CLIP, SCORE_CLIP)
