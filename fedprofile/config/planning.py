"""From a configuration and public facts about the nodes to what every node is asked to approve.

A coordinator that holds no table and a simulation that holds all of them come to the same plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from fedprofile.aggregation import round_clip, shared_roles
from fedprofile.config.schema import Config
from fedprofile.errors import ConfigError
from fedprofile.models.grid import widest
from fedprofile.models.layout import RECOMPUTED_PARAMETERS, parameters, shared_shapes, start_hash
from fedprofile.secagg.policy import hidden
from fedprofile.types import Align, LearningPlan, Party, Policy, Roster, RunPlan, Schema, Task, Weights

MANY_ROWS = 12_000
RECOMPUTING_NODES = 16
HIDDEN_FROM_ALL = 2
PURPOSE = "customer tiering and product propensity"


@dataclass(frozen=True)
class NodeFacts:
    """What is public about a node before a run: its party, its role and the columns of its table, by kind.

    ``levels``: how many values each categorical column may hold, over the role.
    """

    id: str
    role: str
    schema: Schema
    levels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FederationFacts:
    """What a plan is made from. ``nodes``: the label owner first. ``many_rows``: over MANY_ROWS training customers."""

    label_owner: str
    tasks: tuple[Task, ...]
    nodes: tuple[NodeFacts, ...]
    many_rows: bool


def make_policy(config: Config, facts: FederationFacts) -> Policy:
    """The limits that all nodes share.

    Raises ConfigError where ``secure.verify=recompute`` is asked for and cannot be had.
    """
    policy = Policy(
        min_hidden=config.secure.min_hidden,
        colluders=config.secure.colluders,
        min_customers=config.privacy.min_release,
        tasks=tuple(t.name for t in facts.tasks),
        max_uploads=config.secure.max_uploads,
        max_uploads_day=config.secure.max_uploads_day,
        max_points=config.align.max_points,
        clip=config.secure.clip,
        accept_differencing=config.secure.accept_differencing,
    )
    why_not = why_not_recomputed(config, facts, policy)
    if config.secure.verify == "recompute" and why_not:
        raise ConfigError("secure.verify", why_not, "Leave secure.verify at auto, or name none: the report states it.")
    return replace(policy, recompute=config.secure.verify != "none" and not why_not)


def why_not_recomputed(config: Config, facts: FederationFacts, policy: Policy) -> str:
    """Why nodes cannot recompute the sums of this federation, "" where they can (secure-sum 9.1 and 9.6).

    A role's encoder is counted at the widest that its columns allow; how wide it is follows from counts that are
    opened later, and nodes count again then.
    """
    if config.secure.profile == "none":
        return "secure=none: uploads without masks are not for every node to see"
    if config.secure.profile == "resilient":
        return "secure=resilient: uploads carry self masks, which no node but the coordinator can take off the sum"
    if len(facts.nodes) > RECOMPUTING_NODES:
        count = len(facts.nodes)
        return f"{count} nodes would each get all uploads of a round; recomputing is for {RECOMPUTING_NODES} at most"
    roster, shared = _roles(config, facts, policy)
    learning = _learning(config, alone=not shared, many_rows=False)
    nodes = {node.role: node for node in facts.nodes}
    widths = [widest(nodes[role].schema, nodes[role].levels) for role in shared]
    size = max(parameters(facts.tasks, learning, width) for width in [None, *widths])
    if size > RECOMPUTED_PARAMETERS:
        return f"up to {size:,} shared parameters at one node; recomputing is for {RECOMPUTED_PARAMETERS:,} at most"
    cohorts = [tuple(n.id for n in facts.nodes), *(tuple(p.id for p in roster.members(role)) for role in shared)]
    least = min(hidden(cohort, roster.label_owner, "", policy.colluders) for cohort in cohorts)
    if least < HIDDEN_FROM_ALL:
        return f"every node would learn a sum that hides {least} contribution(s) from it, {HIDDEN_FROM_ALL} are needed"
    return ""


def views_needed(config: Config) -> int:
    """Nodes besides the label owner that must know a customer before scores are summed (secure-sum 9.7)."""
    return max(config.fusion.min_views, config.secure.min_hidden + config.secure.colluders)


def make_learning(config: Config, facts: FederationFacts, policy: Policy) -> tuple[LearningPlan, tuple[str, ...]]:
    """The arithmetic of local training, and the roles whose members share an encoder.

    Raises ConfigError where a round could move a weight further than the nodes' clip allows.
    """
    _, shared = _roles(config, facts, policy)
    learning = _learning(config, alone=not shared, many_rows=facts.many_rows)
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
    facts: FederationFacts,
    roster: Roster,
    policy: Policy,
    run_id: bytes | None,
    start: Weights | None = None,
) -> RunPlan:
    """``run_id`` None derives it from the plan, so that equal simulated runs are equal byte for byte.

    ``start``: trained trunk and heads to begin from. Raises ConfigError where they do not fit the model.
    """
    schemas = {node.role: node.schema for node in facts.nodes}
    learning, shared = make_learning(config, facts, policy)
    if start is not None:
        shapes = shared_shapes(facts.tasks, learning) if learning.share == "all" else {}
        if {name: w.shape for name, w in start.items()} != shapes:
            what = "the trained weights to begin from do not fit the model"
            raise ConfigError("model", what, "Keep tasks, model.* and learning.share=all as they were, or start cold.")
    plan = RunPlan(
        run_id=run_id or bytes(32),
        purpose=PURPOSE,
        tasks=facts.tasks,
        roster_hash=roster.hash,
        policy_hash=policy.hash,
        seed=config.seed,
        learning=learning,
        label_eps=config.privacy.label_eps,
        min_views=views_needed(config),
        schemas={role: schemas[role] for role in shared},
        align=cast(Align, config.align.mode),
        min_release=config.privacy.min_release,
        recompute=policy.recompute,
        start=start_hash(start) if start else b"",
    )
    if run_id is None:
        derived = hashlib.sha256(b"fedprofile/simulated-run/1" + plan.basis).digest()
        plan = RunPlan(**{**vars(plan), "run_id": derived})
    return plan


def _roles(config: Config, facts: FederationFacts, policy: Policy) -> tuple[Roster, tuple[str, ...]]:
    """The parties without keys, and the roles whose members share an encoder."""
    parties = tuple(Party(n.id, n.role, n.role, b"") for n in facts.nodes)
    roster = Roster(1, b"", parties, facts.label_owner)
    return roster, shared_roles(roster, policy) if config.learning.share != "none" else ()


def _learning(config: Config, alone: bool, many_rows: bool) -> LearningPlan:
    """20 rounds of 20 steps; where no role shares an encoder, 5 of 80 are the same work in less traffic."""
    c, m = config.learning, config.model
    rounds = c.rounds or (5 if alone else 20)
    steps = c.steps or (80 if alone else 20) * (2 if many_rows else 1)
    return LearningPlan(
        replicas=m.replicas, hidden=m.hidden, profile=m.profile, ensemble=m.ensemble, dropout=m.dropout,
        encoder=m.encoder, head=m.head, lr=c.lr, weight_decay=c.weight_decay, batch=c.batch, rounds=rounds,
        steps=steps, share=c.share, trees=c.trees, view_dropout=c.view_dropout,
    )  # fmt: skip
