"""A federation's tables, dealt out to simulated nodes: members of a role, and what each party knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedprofile.alignment.hashing import member_of, row_order, uniform
from fedprofile.data.federation import Federation
from fedprofile.types import Spine, Table, digest


@dataclass(frozen=True)
class SimulatedNode:
    """One node's private side: ``role`` is the party of the federation folder that it is a member of."""

    id: str
    role: str
    table: Table = field(repr=False)


def deal(federation: Federation, members: int, overlap: float) -> list[SimulatedNode]:
    """The label owner first. Each partner's customers are split among ``members`` by a hash of the id, after
    ``overlap`` has thinned what the partner knows to that share of its customers (1 = all)."""
    owner = federation.label_owner
    nodes = [SimulatedNode(owner, owner, federation.tables[owner])]
    for role in federation.partners:
        table = federation.tables[role]
        if overlap < 1:
            table = table.take(uniform(table.ids, f"overlap/{role}") < overlap)
        if members == 1:
            nodes.append(SimulatedNode(role, role, table))
            continue
        member = member_of(table.ids, role, members)
        nodes += [SimulatedNode(f"{role}-{m + 1}", role, table.take(member == m)) for m in range(members)]
    return nodes


@dataclass(frozen=True)
class Alignment:
    """What ``align=simulated`` takes in place of private set intersection, and what every simulation checks first.

    No id leaves this object.
    """

    spines: Mapping[str, Spine]
    known: Mapping[str, npt.NDArray[np.bool_]] = field(repr=False)
    enough: npt.NDArray[np.bool_] = field(repr=False)
    hash: bytes


def align(nodes: list[SimulatedNode], secret: bytes, views: int) -> Alignment:
    """Slots are the label owner's customers in the order of their pseudonyms H(secret, id).

    ``known[party]`` (size,) says which slots a partner knows; a slot is ``enough`` when at least ``views`` do.
    """
    owner = nodes[0]
    pseudonyms = [digest("pseudonym/1", secret, str(i).encode()) for i in owner.table.ids]
    order = np.argsort(np.array([p.hex() for p in pseudonyms]))
    mark = digest("spine/1", *(pseudonyms[i] for i in order))
    slot_of = {str(owner.table.ids[row]): slot for slot, row in enumerate(order)}
    size = len(order)
    positions, known = {}, {}
    for node in nodes:
        found = [(row, slot_of[str(i)]) for row, i in enumerate(node.table.ids) if str(i) in slot_of]
        pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
        positions[node.id] = pairs[row_order(node.table.ids[pairs[:, 0]])]
        known[node.id] = np.zeros(size, dtype=np.bool_)
        known[node.id][positions[node.id][:, 1]] = True
    partners = [node.id for node in nodes[1:]]
    enough = np.sum([known[p] for p in partners], axis=0) >= views
    spines = {}
    for party, pairs in positions.items():
        rows, slots = np.ascontiguousarray(pairs.T)
        spines[party] = Spine(size, rows, slots, enough[slots], mark)
    return Alignment(spines, {p: known[p] for p in partners}, enough, mark)
