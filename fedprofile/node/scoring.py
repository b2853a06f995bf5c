"""Where what a node says of each customer stands in the spine; only the masked sum of it leaves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedprofile.types import Spine


def place(weighed: npt.NDArray[np.float32], spine: Spine) -> npt.NDArray[np.float64]:
    """(size, C): the node's rows in spine order, zeros for customers that too few nodes know, or this one does not."""
    placed = np.zeros((spine.size, weighed.shape[1]))
    placed[spine.slots[spine.enough]] = weighed[spine.enough]
    return placed
