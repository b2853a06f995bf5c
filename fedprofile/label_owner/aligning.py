"""The label owner's part in alignment: it names the customers, answers each partner, and learns who knows whom."""

from __future__ import annotations

import numpy as np

from fedprofile.alignment.curve import POINT
from fedprofile.alignment.hashing import row_order
from fedprofile.alignment.letters import SIGNED_SPINE, SpineFact, body_size
from fedprofile.alignment.psi import Ids, Owner, write_views
from fedprofile.label_owner.home import Membership, adopt_simulated_membership, write_membership
from fedprofile.node.aligning import Aligning, fingerprint
from fedprofile.node.spine import write_spine
from fedprofile.secagg.codes import refusal, remote
from fedprofile.types import Spine

_VALUES = "values"


class OwnerAligning(Aligning):
    """Letters come and go in the order of the roster's partners."""

    @property
    def partners(self) -> tuple[str, ...]:
        return tuple(p.id for p in self.roster.parties if p.id != self.me)

    def spine(self, sealed: tuple[bytes, ...]) -> tuple[SpineFact, tuple[bytes, ...]]:
        """The run's spine, and (signature, a sealed answer to each partner's points).

        Raises RemoteProtocolError, and PolicyRefusal("too_many_points"), before anything is answered.
        """
        if self.plan.align == "simulated":
            spine = self.adopt()
            adopt_simulated_membership(self.home)
            fact = SpineFact(spine.size, spine.hash)
            answers: tuple[bytes, ...] = ()
        else:
            asked = self._asked(sealed)
            side = self._side(self.ids()[1])
            fact = SpineFact(side.size, side.hash)
            answers = tuple(
                self.write(p, "answer", len(points) // POINT, side.answer(points)) for p, points in asked.items()
            )
            for party, points in asked.items():
                self.book("asked-by", party, points, points=len(points) // POINT)
        self.pin(fact)
        return fact, (self.identity.sign(SIGNED_SPINE, fact.signed_bytes(self.plan.hash)), *answers)

    def views(self, sealed: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Store who knows whom; tell each partner of which of its customers enough nodes know."""
        rows, ids = self.ids()
        side, known = self._side(ids), {}
        for party, part in self._each(sealed):
            letter = self.open(party, "claims", part)
            if letter.size != side.size:
                raise remote("bad_size", "claims of another spine")
            known[party] = side.known(party, letter.body)
            self.book("claimed-by", party, letter.body, customers=int(known[party].sum()))
        enough = np.sum(list(known.values()), axis=0) >= self.plan.min_views
        order = row_order(ids)
        slots = side.slots[order]
        write_membership(self.home, Membership(known))
        write_spine(self.home, Spine(side.size, rows[order], slots, enough[slots], side.hash))
        for party, mask in known.items():
            entry = {"event": "told", "plan": self.plan.hash.hex(), "to": party, "customers": int(mask.sum())}
            self.journal.append(entry)
        return tuple(self.write(p, "views", side.size, write_views(mask & enough)) for p, mask in known.items())

    def _asked(self, sealed: tuple[bytes, ...]) -> dict[str, bytes]:
        """Each partner's points, as many as it signed for and no more than this node answers."""
        asked = {}
        for party, part in self._each(sealed):
            letter = self.open(party, "points", part)
            if letter.size > self.policy.max_points:
                raise refusal("too_many_points", f"partner {party!r} asks about {letter.size} customers")
            if len(letter.body) != body_size("points", letter.size, 0):
                raise remote("wrong_length", "points")
            asked[party] = letter.body
        return asked

    def _each(self, sealed: tuple[bytes, ...]) -> list[tuple[str, bytes]]:
        if len(sealed) != len(self.partners):
            raise remote("bad_letter", "one letter of each partner")
        return list(zip(self.partners, sealed, strict=True))

    def _side(self, ids: Ids) -> Owner:
        """The function's values at the own customers are computed once a run; another process may go on with them.

        Raises RemoteProtocolError("spine_changed") where table or consent changed since.
        """
        mark, held = fingerprint(ids), self.home.read(_VALUES)
        if held is not None and held[: len(mark)] != mark:
            raise remote("spine_changed", "table or consent changed after this node had made the spine")
        values = None if held is None else held[len(mark) :]
        side = Owner(ids, self.plan.hash, self.suite, self.rand(), values)
        if held is None:
            self.home.write(_VALUES, mark + side.values)
        return side
