"""From a configuration and simulated nodes to what every node is asked to approve; refuses what would hide nothing."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import cast

import numpy as np

from fedprofile.aggregation import round_clip, shared_roles
from fedprofile.alignment.hashing import TRAIN_BELOW, split_bucket
from fedprofile.alignment.letters import size_class
from fedprofile.config.schema import Config
from fedprofile.data.federation import Federation
from fedprofile.errors import ConfigError
from fedprofile.models.layout import shared_shapes
from fedprofile.secagg.policy import hidden
from fedprofile.simulation.nodes import Alignment, SimulatedNode
from fedprofile.types import Align, LearningPlan, Party, Policy, Roster, RunPlan

MANY_ROWS = 12_000
RECOMPUTING_NODES = 16
RECOMPUTED_PARAMETERS = 1_000_000
HIDDEN_FROM_ALL = 2
PURPOSE = "customer tiering and product propensity"


def make_policy(config: Config, federation: Federation, nodes: list[SimulatedNode]) -> Policy:
    """The limits that all simulated nodes share.

    Raises ConfigError where ``secure.verify=recompute`` is asked for and cannot be had.
    """
    policy = Policy(
        min_hidden=config.secure.min_hidden,
        colluders=config.secure.colluders,
        min_customers=config.privacy.min_release,
        tasks=tuple(t.name for t in federation.tasks),
        max_uploads=config.secure.max_uploads,
        max_uploads_day=config.secure.max_uploads_day,
        max_points=config.align.max_points,
        clip=config.secure.clip,
        accept_differencing=config.secure.accept_differencing,
    )
    why_not = why_not_recomputed(config, federation, nodes, policy)
    if config.secure.verify == "recompute" and why_not:
        raise ConfigError("secure.verify", why_not, "Leave secure.verify at auto, or name none: the report states it.")
    return replace(policy, recompute=config.secure.verify != "none" and not why_not)


def why_not_recomputed(config: Config, federation: Federation, nodes: list[SimulatedNode], policy: Policy) -> str:
    """Why nodes cannot recompute the sums of this federation, "" where they can (secure-sum 9.1 and 9.6).

    Trunk and heads are counted; how wide a role's encoder is follows from counts that are opened later.
    """
    if config.secure.profile == "none":
        return "secure=none: uploads without masks are not for every node to see"
    if config.secure.profile == "resilient":
        return "secure=resilient: uploads carry self masks, which no node but the coordinator can take off the sum"
    if len(nodes) > RECOMPUTING_NODES:
        return (
            f"{len(nodes)} nodes would each get all uploads of a round; recomputing is for {RECOMPUTING_NODES} at most"
        )
    roster, shared = _roles(config, federation, nodes, policy)
    learning = _learning(config, alone=not shared, train_rows=0)
    size = sum(math.prod(s) for s in shared_shapes(federation.tasks, learning).values())
    if size > RECOMPUTED_PARAMETERS:
        return f"{size:,} shared parameters; recomputing is for {RECOMPUTED_PARAMETERS:,} at most"
    cohorts = [tuple(n.id for n in nodes), *(tuple(p.id for p in roster.members(role)) for role in shared)]
    least = min(hidden(cohort, roster.label_owner, "", policy.colluders) for cohort in cohorts)
    if least < HIDDEN_FROM_ALL:
        return f"every node would learn a sum that hides {least} contribution(s) from it, {HIDDEN_FROM_ALL} are needed"
    return ""


def views_needed(config: Config) -> int:
    """Nodes besides the label owner that must know a customer before scores are summed (secure-sum 9.7)."""
    return max(config.fusion.min_views, config.secure.min_hidden + config.secure.colluders)


def make_learning(
    config: Config, federation: Federation, nodes: list[SimulatedNode], policy: Policy
) -> tuple[LearningPlan, tuple[str, ...]]:
    """The arithmetic of local training, and the roles whose members share an encoder.

    Raises ConfigError where a round could move a weight further than the nodes' clip allows.
    """
    _, shared = _roles(config, federation, nodes, policy)
    train_rows = int((split_bucket(federation.labels.ids, config.data.fold) < TRAIN_BELOW).sum())
    learning = _learning(config, alone=not shared, train_rows=train_rows)
    widest = max(round_clip(learning, t) for t in range(1, learning.rounds + 1))
    if widest > policy.clip:
        raise ConfigError(
            "secure.clip",
            f"learning.lr={config.learning.lr:g} over {learning.steps} steps moves a weight by up to {widest:.3g} "
            f"a round, more than the nodes' limit of {policy.clip:g}",
            "Lower learning.lr or learning.steps, or raise secure.clip.",
        )
    return learning, shared


def make_plan(
    config: Config,
    federation: Federation,
    nodes: list[SimulatedNode],
    roster: Roster,
    policy: Policy,
    run_id: bytes | None,
) -> RunPlan:
    """``run_id`` None derives it from the plan, so that equal simulated runs are equal byte for byte."""
    tables = {node.role: node.table for node in nodes}
    learning, shared = make_learning(config, federation, nodes, policy)
    plan = RunPlan(
        run_id=run_id or bytes(32),
        purpose=PURPOSE,
        tasks=federation.tasks,
        roster_hash=roster.hash,
        policy_hash=policy.hash,
        seed=config.seed,
        learning=learning,
        label_eps=config.privacy.label_eps,
        min_views=views_needed(config),
        schemas={role: tables[role].schema for role in shared},
        align=cast(Align, config.align.mode),
        min_release=config.privacy.min_release,
        recompute=policy.recompute,
    )
    if run_id is None:
        derived = hashlib.sha256(b"fedprofile/simulated-run/1" + plan.basis).digest()
        plan = RunPlan(**{**vars(plan), "run_id": derived})
    return plan


def _roles(
    config: Config, federation: Federation, nodes: list[SimulatedNode], policy: Policy
) -> tuple[Roster, tuple[str, ...]]:
    """The parties without keys, and the roles whose members share an encoder."""
    parties = tuple(Party(n.id, n.role, n.role, b"") for n in nodes)
    roster = Roster(1, b"", parties, federation.label_owner)
    return roster, shared_roles(roster, policy) if config.learning.share != "none" else ()


def _learning(config: Config, alone: bool, train_rows: int) -> LearningPlan:
    """20 rounds of 20 steps; where no role shares an encoder, 5 of 80 are the same work in less traffic."""
    c, m = config.learning, config.model
    rounds = c.rounds or (5 if alone else 20)
    steps = c.steps or (80 if alone else 20) * (2 if train_rows > MANY_ROWS else 1)
    return LearningPlan(
        replicas=m.replicas, hidden=m.hidden, profile=m.profile, ensemble=m.ensemble, dropout=m.dropout,
        encoder=m.encoder, head=m.head, lr=c.lr, weight_decay=c.weight_decay, batch=c.batch, rounds=rounds,
        steps=steps, share=c.share, trees=c.trees, view_dropout=c.view_dropout,
    )  # fmt: skip


def check_federation(config: Config, federation: Federation, nodes: list[SimulatedNode], alignment: Alignment) -> None:
    """Refuse, before anything is written, a federation whose sums hide too little or whose releases are too small.

    Raises ConfigError naming the setting.
    """
    hidden = len(nodes) - 1 - config.secure.colluders
    if hidden < config.secure.min_hidden:
        raise ConfigError(
            "secure.min_hidden",
            f"with {len(nodes)} parties a sum hides {hidden} contribution(s) from its reader, "
            f"{config.secure.min_hidden} are asked for: with two parties a sum hides nothing",
            "Add a party, or state with secure.min_hidden=1 fusion.min_views=1 that one partner's scores are opened.",
        )
    for node in nodes[1:]:
        if config.align.mode != "simulated" and size_class(len(node.table)) > config.align.max_points:
            raise ConfigError(
                "align.max_points",
                f"node {node.id!r} would ask about {size_class(len(node.table))} customers, padding included",
                "Raise it; it bounds what one partner can find out by asking.",
            )
    owner = nodes[0].table
    train = {str(i) for i in owner.ids[split_bucket(owner.ids, config.data.fold) < TRAIN_BELOW]}
    for node in nodes[1:]:
        customers = int(np.isin(node.table.ids, list(train)).sum())
        if customers < config.privacy.min_release:
            raise ConfigError(
                "privacy.min_release",
                f"node {node.id!r} shares only {customers} training customers with {federation.label_owner!r}, "
                f"a label release needs {config.privacy.min_release}",
                "Use fewer federation.members, a larger federation.overlap, or lower privacy.min_release.",
            )
    if not alignment.enough.any():
        raise ConfigError(
            "fusion.min_views",
            f"no customer is known to {views_needed(config)} partner nodes, so no score may be summed",
            "Use a larger federation.overlap, or more partners.",
        )
