"""What each sum looks like, and the step from an opened sum to the next shared weights.

numpy only and deterministic: the coordinator runs it, and each node recomputes the layouts so that it
refuses a request whose layout is not the one the plan implies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedprofile.errors import RemoteProtocolError
from fedprofile.types import Layout, LearningPlan, Policy, Roster, Schema, Segment, Task, Weights

COUNT_BINS = 1024
SCORE_CLIP = 8.0
SCORE_STEP = 1 / 16
MIN_ROLE_MEMBERS = 3
_LOSS_SCALE = 2.0**-20
_META_CLIP = 2.0**28  # with _LOSS_SCALE, sums of 32 nodes stay exact in float64
_GAIN_CLIP, _GAIN_SCALE = 16.0, 2.0**-16
_SAFETY = 2.0

META = "meta"
GAINS = "gains"
SCORES = "scores"


def learning_rate(plan: LearningPlan, step: int) -> float:
    """Learning rate of step 0 <= step < rounds * steps: 30 steps of warm-up, then a cosine to zero."""
    total = plan.rounds * plan.steps
    return plan.lr * min(1.0, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / total))


def round_clip(plan: LearningPlan, t: int) -> float:
    """Bound on one node's change of one weight in round t (1-based).

    An Adam step moves a weight by about its learning rate (Kingma & Ba 2015, 2.1), so the sum of the
    round's rates bounds the delta without looking at anybody's data; the rest is counted as saturated.
    """
    first = (t - 1) * plan.steps
    return _SAFETY * max(sum(learning_rate(plan, s) for s in range(first, first + plan.steps)), 1e-6)


def shared_roles(roster: Roster, policy: Policy) -> tuple[str, ...]:
    """Partner roles with enough members for a sum of encoders to hide what the policy asks to be hidden."""
    owner = roster.party(roster.label_owner).role
    enough = max(MIN_ROLE_MEMBERS, policy.min_hidden + policy.colluders + 1)
    roles = sorted({p.role for p in roster.parties if p.role != owner})
    return tuple(r for r in roles if len(roster.members(r)) >= enough)


def role_takes_trunk(plan: LearningPlan) -> bool:
    return plan.share == "role"


def delta_layout(shapes: Mapping[str, tuple[int, ...]], clip: float, members: int) -> Layout:
    """Deltas of the named tensors in Z_2^16, by name: every party must arrive at the same order."""
    return Layout(tuple(Segment.fitted(n, s, 16, clip, members) for n, s in sorted(shapes.items())))


def update_layout(
    shapes: Mapping[str, tuple[int, ...]], plan: LearningPlan, tasks: tuple[Task, ...], t: int, members: int
) -> Layout:
    """Shared deltas and, in Z_2^64, [nodes, rows, saturated values, summed loss a task ...]."""
    deltas = delta_layout(shapes, round_clip(plan, t), members)
    meta = Segment(META, (3 + len(tasks),), 64, _META_CLIP, _LOSS_SCALE)
    return Layout((*deltas.segments, meta))


def counts_layout(schema: Schema, members: int) -> Layout:
    """One histogram of COUNT_BINS buckets a column, in Z_2^32."""
    clip = float((2**31 - 1) // members - 1)
    return Layout(tuple(Segment(f"count.{c}", (COUNT_BINS,), 32, clip, 1.0) for c in schema.columns))


def gain_layout(tasks: tuple[Task, ...]) -> Layout:
    """The log-loss that one node's scores save a task, in nats."""
    return Layout((Segment(GAINS, (len(tasks),), 32, _GAIN_CLIP, _GAIN_SCALE),))


def score_layout(slots: int, outputs: int) -> Layout:
    """Log-odds for every slot of the spine, clipped to +-8 in steps of 1/16 (secure-sum 9.7)."""
    return Layout((Segment(SCORES, (slots, outputs), 16, SCORE_CLIP, SCORE_STEP),))


def next_shared(shared: Weights, opened: Mapping[str, npt.NDArray[np.float64]], members: int) -> Weights:
    """Federated averaging of deltas (McMahan et al. 2017), unweighted, elementwise in float64, kept as float32.

    Raises RemoteProtocolError("bad_sum") if a tensor is missing or not finite.
    """
    after: Weights = {}
    for name, value in shared.items():
        delta = opened.get(name)
        if delta is None or delta.shape != value.shape or not np.isfinite(delta).all():
            raise RemoteProtocolError("bad_sum", f"the opened sum does not fit tensor {name}")
        after[name] = (value.astype(np.float64) + delta / members).astype(np.float32)
    return after


def check_weight(opened: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """A sum of updates behind which stand no node or no row changes no weights (secure-sum 9.6).

    Raises RemoteProtocolError("zero_weight").
    """
    if META in opened and not (opened[META][:2] > 0).all():
        raise RemoteProtocolError("zero_weight", "no node or no row stands behind the opened sum")


def gain_weight(gain: float, mean_gain: float) -> float:
    """Weight of one node's scores: sqrt(gain / mean gain), at most 1.5, so that no node dominates the sum."""
    return min(math.sqrt(max(gain, 0.0) / max(mean_gain, 1e-6)), 1.5)
