"""Who masks with whom and how many are needed: the graph of a resilient round and its thresholds (section 5.2).

Up to 32 members the graph is complete. Above, it is Harary's ring: members ordered by HMAC-SHA256(T0, wire id),
each joined to the ``degree`` / 2 on either side. Fewer than ``degree`` lost vertices never cut such a ring
(Harary, PNAS 1962), whoever picks them; that is what a node relies on. The rows add what Bell et al. (CCS 2020,
section 3.4) prove for random sets: 2^-40 for privacy and 2^-20 for opening.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from fedprofile.secagg.codes import refusal
from fedprofile.secagg.wire import party_wire_id, wire_order

COMPLETE = 32

# members -> share of colluders -> (degree, threshold), for a malicious coordinator and 5, 5, 10, 5 % dropouts
ROWS: dict[int, dict[float, tuple[int, int]]] = {
    50: {0.05: (8, 6), 0.10: (10, 8), 0.20: (22, 17), 0.33: (22, 20)},
    100: {0.05: (16, 11), 0.10: (22, 17), 0.20: (42, 32), 0.33: (42, 37)},
    200: {0.05: (30, 21), 0.10: (40, 30), 0.20: (76, 57), 0.33: (68, 58)},
    300: {0.05: (38, 27), 0.10: (48, 36), 0.20: (94, 70), 0.33: (92, 77)},
}


@dataclass(frozen=True)
class Graph:
    """``degree`` neighbours each; ``threshold`` of a member's holders open its secrets; ``quorum`` of all fix a set."""

    members: int
    degree: int
    threshold: int
    quorum: int

    @property
    def complete(self) -> bool:
        """Whether everybody holds a share of everybody: then the consent given with an upload can open."""
        return self.degree == self.members - 1

    def tolerates(self, colluders: int) -> bool:
        """Two sets never both find a quorum, and the colluders hold too few shares to open anything."""
        return 2 * self.quorum > self.members + colluders and colluders < self.threshold


def graph_of(members: int, colluders: int) -> Graph:
    """The graph for a cohort. Between two rows the next larger one holds.

    A larger row has a higher degree and threshold, hence more of what a node checks for itself: fewer
    colluders than ``threshold``, fewer colluders and dropouts together than ``degree``.
    Raises PolicyRefusal("threshold_refused") where no graph tolerates the colluders.
    """
    quorum = (members + colluders) // 2 + 1
    candidates = [(members - 1, quorum)] if members <= COMPLETE else _candidates(members, colluders)
    for degree, threshold in candidates:
        graph = Graph(members, degree, threshold, quorum)
        if quorum <= members and graph.tolerates(colluders):
            return graph
    raise refusal("threshold_refused", f"{members} members, {colluders} colluders")


def _candidates(members: int, colluders: int) -> list[tuple[int, int]]:
    row = next((ROWS[n] for n in sorted(ROWS) if n >= members), {})
    return [row[share] for share in sorted(row) if colluders <= share * members]


class Circle:
    """The graph of one round over its contributors, in wire order."""

    def __init__(self, t0: bytes, members: tuple[str, ...], graph: Graph) -> None:
        self.t0, self.members, self.graph = t0, members, graph
        self._ring = sorted(members, key=lambda p: hmac.digest(t0, party_wire_id(p), "sha256"))
        self._at = {p: i for i, p in enumerate(self._ring)}
        self._points = {p: i + 1 for i, p in enumerate(members)}

    def neighbours(self, party: str) -> tuple[str, ...]:
        """The members that ``party`` shares pads with, in wire order."""
        if self.graph.complete:
            return tuple(p for p in self.members if p != party)
        at, reach = self._at[party], self.graph.degree // 2
        return wire_order(tuple(self._ring[(at + d) % len(self._ring)] for d in range(-reach, reach + 1) if d))

    def holders(self, party: str) -> tuple[str, ...]:
        """Who holds a share of ``party``'s secrets, and whose shares it holds: its neighbours and itself."""
        return wire_order((party, *self.neighbours(party)))

    def derived(self, party: str) -> tuple[str, ...]:
        """The ``threshold`` - 1 of ``party``'s holders whose shares follow from keys: it and the next in order."""
        holders = self.holders(party)
        at = holders.index(party)
        return (holders[at:] + holders[:at])[: self.graph.threshold - 1]

    def sent(self, party: str) -> tuple[str, ...]:
        """The other holders, to whom ``party`` seals a share, in wire order."""
        derived = self.derived(party)
        return tuple(p for p in self.holders(party) if p not in derived)

    def point(self, party: str) -> int:
        """Where a holder's shares are taken: its position among the members, from 1."""
        return self._points[party]
