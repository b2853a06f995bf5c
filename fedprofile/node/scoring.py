"""What a node says of each customer: centred, out-of-fold log-odds, weighed, clipped; only their masked sum leaves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedprofile.aggregation import SCORE_CLIP, gain_weight
from fedprofile.types import Spine, Task, output_slices

Matrix = npt.NDArray[np.float32]


def weigh(log_odds: Matrix, gains: Mapping[str, float], means: Mapping[str, float], tasks: tuple[Task, ...]) -> Matrix:
    """(m, C) log-odds times sqrt(gain / mean gain) a task, clipped to +-SCORE_CLIP."""
    weighed = log_odds.copy()
    for name, columns in output_slices(tasks).items():
        weighed[:, columns] *= gain_weight(gains[name], means[name])
    return np.clip(weighed, -SCORE_CLIP, SCORE_CLIP)


def place(weighed: Matrix, spine: Spine) -> npt.NDArray[np.float64]:
    """(size, C): the node's rows in spine order, zeros for customers that too few nodes know, or this one does not."""
    placed = np.zeros((spine.size, weighed.shape[1]))
    placed[spine.slots[spine.enough]] = weighed[spine.enough]
    return placed
