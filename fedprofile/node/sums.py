"""The sums that a node takes part in, as the plan implies them: over whom, and in which layout."""

from __future__ import annotations

from dataclasses import dataclass

from fedprofile.aggregation import (
    counts_layout,
    delta_layout,
    gain_layout,
    role_takes_trunk,
    round_clip,
    score_layout,
    update_layout,
)
from fedprofile.errors import PolicyRefusal, RemoteProtocolError
from fedprofile.models.layout import encoder_shapes, shared_shapes
from fedprofile.node.run import NodeRun
from fedprofile.secagg.messages import Round
from fedprofile.secagg.wire import wire_order
from fedprofile.types import Kind, Layout

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Planned:
    """``scope`` is the role, "" for all; ``cohort`` are party ids in wire order."""

    scope: str
    cohort: tuple[str, ...]
    layout: Layout


def shared_tensors(run: NodeRun) -> Shapes:
    """Trunk and heads where all nodes share them, else nothing."""
    return shared_shapes(run.plan.tasks, run.plan.learning) if run.plan.learning.share == "all" else {}


def encoder_tensors(run: NodeRun) -> Shapes:
    """What the members of this node's role share; reads the agreed features, no table."""
    shapes = encoder_shapes(run.features.width, run.plan.learning)
    return shapes | shared_shapes(run.plan.tasks, run.plan.learning) if role_takes_trunk(run.plan.learning) else shapes


def planned(run: NodeRun, kind: Kind, t: int) -> Planned:
    """The sum of this kind at index t: 0 counts, 1 ... rounds train, then gains and scores."""
    plan, learning = run.plan, run.plan.learning
    inside = wire_order(tuple(p.id for p in run.roster.members(run.role)))
    everyone = wire_order(tuple(p.id for p in run.roster.parties))
    if kind == "role":
        return Planned(run.role, inside, delta_layout(encoder_tensors(run), round_clip(learning, t), len(inside)))
    if kind == "update":
        return Planned("", everyone, update_layout(shared_tensors(run), learning, plan.tasks, t, len(everyone)))
    if kind == "score":
        return Planned("", everyone, score_layout(run.alignment.size, sum(task.outputs for task in plan.tasks)))
    if t == 0:
        return Planned(run.role, inside, counts_layout(plan.schemas[run.role], len(inside)))
    return Planned("", everyone, gain_layout(plan.tasks))


def check_planned(run: NodeRun, request: Round) -> None:
    """Raises RemoteProtocolError("wrong_layout") or PolicyRefusal("cohort_refused")."""
    due = planned(run, request.id.kind, request.id.t)
    if request.layout != due.layout:
        raise RemoteProtocolError("wrong_layout", "the request's layout is not the one the plan implies")
    if request.cohort != due.cohort:
        raise PolicyRefusal("cohort_refused", "the plan sums over all of the roster, or of the role")
