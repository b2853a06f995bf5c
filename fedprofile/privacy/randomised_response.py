"""k-ary randomised response (Warner 1965; Kairouz et al. 2014), one draw per customer, task and class for ever.

A label of K classes is kept with probability keep = e^eps / (e^eps + K - 1), otherwise replaced by one
of the other K - 1 uniformly: eps-local differential privacy per customer and task. The draw is keyed by
HMAC-SHA256 of (customer, task, true class) under a secret that only the label owner has, so every partner, run and
retraining sees the same answer; fresh draws would average the noise away. A customer whose class changes gets a draw
of its own, and spends eps for each class that it has had: one coin for both would move the answer as the class moved.
"""

from __future__ import annotations

import hashlib
import hmac
import math

import numpy as np
import numpy.typing as npt

from fedprofile.errors import LocalProtocolError
from fedprofile.types import MISSING_LABEL

Matrix = npt.NDArray[np.float64]


def keep_probability(classes: int, eps: float | None) -> float:
    """Probability that a label of ``classes`` classes is released unchanged; 1 when eps is None."""
    if eps is None:
        return 1.0
    if not eps > 0:
        raise LocalProtocolError("bad_epsilon", "label_eps must be positive or null")
    return math.exp(eps) / (math.exp(eps) + classes - 1)


def flip_matrix(classes: int, eps: float | None) -> Matrix:
    """(K, K): entry [y, z] is the probability that true class y is released as z."""
    keep = keep_probability(classes, eps)
    flips = np.full((classes, classes), (1 - keep) / (classes - 1))
    np.fill_diagonal(flips, keep)
    return flips


def diluted(flips: Matrix, prior: Matrix, share: float) -> Matrix:
    """(K, K): ``flips`` where only a ``share`` of the labels are of the rows they stand for (0 < share <= 1).

    The others are released labels of customers drawn at random, whose classes have the distribution ``prior`` (K,):
    share F + (1 - share) 1 (prior F). Rows sum to one and the determinant is share^(K-1) det F, so that a loss
    corrected by it is as consistent as by F itself (Patrini 2017, theorem 2) where who is whose does not depend on
    the row's features.
    """
    return share * flips + (1 - share) * np.broadcast_to(prior @ flips, flips.shape)


def unmix(observed: Matrix, flips: Matrix, floor: float = 1e-3) -> Matrix:
    """True class distribution behind an observed one: observed @ flips^-1, floored and renormalised. (..., K)."""
    true = np.clip(observed @ np.linalg.inv(flips), floor, 1)
    return np.asarray(true / true.sum(-1, keepdims=True))


def randomise(
    ids: npt.NDArray[np.str_], labels: npt.NDArray[np.int64], task: str, classes: int, eps: float | None, secret: bytes
) -> npt.NDArray[np.int64]:
    """Released labels (n,) for normalised ``ids`` (n,); missing labels stay missing.

    The same (id, task, class, secret) always gives the same coin: a larger eps only turns more coins to "keep",
    so two releases at different eps reveal no more than the larger alone.
    """
    released = labels.copy()
    if eps is None:
        return released
    keep = keep_probability(classes, eps)
    prefix = task.encode() + b"\0"
    for row in np.flatnonzero(labels != MISSING_LABEL):
        customer = str(ids[row]).encode() + b"\0" + str(labels[row]).encode()
        draw = hmac.digest(secret, prefix + customer, hashlib.sha256)
        if int.from_bytes(draw[:8], "big") / 2**64 >= keep:
            shift = 1 + int.from_bytes(draw[8:16], "big") % (classes - 1)
            released[row] = (labels[row] + shift) % classes
    return released


def class_prior(released: npt.NDArray[np.int64], classes: int, flips: Matrix) -> Matrix:
    """Class distribution (K,) of the customers behind ``released``, un-mixed: post-processing, costs no eps."""
    known = released[released != MISSING_LABEL]
    counts = np.bincount(known, minlength=classes).astype(np.float64)
    return unmix(counts / max(counts.sum(), 1.0), flips)
