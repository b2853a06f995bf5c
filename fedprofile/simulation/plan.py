"""What a simulated federation tells the planner, and what it refuses before anything is written."""

from __future__ import annotations

import numpy as np

from fedprofile.alignment.hashing import TRAIN_BELOW, split_bucket
from fedprofile.alignment.letters import size_class
from fedprofile.config.planning import MANY_ROWS, FederationFacts, NodeFacts, views_needed
from fedprofile.config.schema import Config
from fedprofile.data.federation import Federation
from fedprofile.errors import ConfigError
from fedprofile.simulation.nodes import Alignment, SimulatedNode
from fedprofile.types import Table


def facts_of(config: Config, federation: Federation, nodes: list[SimulatedNode]) -> FederationFacts:
    """What a coordinator would know from the nodes' requests."""
    train = int((split_bucket(federation.labels.ids, config.data.fold) < TRAIN_BELOW).sum())
    levels = {role: _levels([n.table for n in nodes if n.role == role]) for role in {n.role for n in nodes}}
    facts = tuple(NodeFacts(n.id, n.role, n.table.schema, levels[n.role]) for n in nodes)
    return FederationFacts(federation.label_owner, federation.tasks, facts, train > MANY_ROWS)


def _levels(tables: list[Table]) -> dict[str, int]:
    """Distinct values of each categorical column, over all members of a role."""
    return {c: len(set().union(*(t.columns[c] for t in tables))) for c in tables[0].schema.categorical}


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
