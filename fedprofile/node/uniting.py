"""A node's part in the union of all customers: its own list round the ring, the others' lists under its key.

Every node does the same, the label owner too. ``fedprofile/alignment/README.md`` says what each learns. What this node
would answer differently a second time in a run (another list, another neighbour's letter) it refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedprofile.alignment.curve import POINT
from fedprofile.alignment.hashing import row_order
from fedprofile.alignment.letters import (
    SIGNED_LIST,
    LetterType,
    SpineFact,
    body_size,
    list_bytes,
    verified_size,
)
from fedprofile.alignment.psi import Ids, split
from fedprofile.alignment.union import NAME, SHARES, Holder, slots_of, spine_hash
from fedprofile.node.aligning import Aligning, fingerprint
from fedprofile.node.randomness import keystream_source
from fedprofile.node.spine import SHARE, write_spine
from fedprofile.secagg.codes import refusal, remote
from fedprofile.types import Party, Spine

UNION = "union.bin"
_ASKED, _SIZES, _NAMES = "asked", "sizes.json", "names.bin"
_LIST: LetterType = "list"


@dataclass
class Uniting(Aligning):
    """The ring is the roster's order: letters come from the party before this one and go to the one after."""

    modes: ClassVar[tuple[str, ...]] = ("union",)

    def listed(self) -> tuple[int, bytes]:
        """How long this node's list is, padding included, and its signature on that."""
        _, ids = self.ids()
        side = self._side(ids)
        self.home.write(_ASKED, fingerprint(ids))
        self.journal.append({"event": "listed", "plan": self.plan.hash.hex(), "points": side.size})
        signed = list_bytes(self.plan.hash, self.roster.party(self.me), side.size)
        return side.size, self.identity.sign(SIGNED_LIST, signed)

    def blind(self, sizes: Mapping[str, object], signatures: Sequence[bytes]) -> bytes:
        """Hold on to what every party signed for, and send the own list on its way.

        Raises RemoteProtocolError, and PolicyRefusal("too_many_points"), before anything is sent.
        """
        parties = self.roster.parties
        if set(sizes) != {p.id for p in parties} or len(signatures) != len(parties):
            raise remote("bad_size", "one list of each party")
        each = zip(parties, signatures, strict=True)
        verified = {p.id: verified_size(sizes[p.id], s, self.plan.hash, p) for p, s in each}
        for party, size in verified.items():
            if size > self.policy.max_points:
                raise refusal("too_many_points", f"party {party!r} lists {size} customers")
        held = self.home.read(_SIZES)
        if held is not None and json.loads(held) != verified:
            raise remote("bad_size", "a list of another size than before")
        side = self._unchanged_side()
        if verified[self.me] != side.size:
            raise remote("bad_size", "this node signed for another list")
        self.home.write(_SIZES, json.dumps(verified).encode())
        return self._pass_on(self.roster.party(self.me), side.points())

    def mask(self, sealed: bytes) -> bytes:
        """Another party's list, from the neighbour before, under this node's key, to the neighbour after."""
        owner, points = self._received(sealed)
        if owner.id == self.me:
            raise remote("wrong_party", "this node's own list has been round")
        masked = self._unchanged_side().mask(points)
        self.book("masked", owner.id, points, points=len(points) // POINT)
        return self._pass_on(owner, masked)

    def names(self, sealed: bytes) -> bytes:
        """The own list is back: its names, in order, for the coordinator, who can say whose list they are on."""
        owner, points = self._received(sealed)
        if owner.id != self.me:
            raise remote("wrong_party", "another party's list")
        side = self._unchanged_side()
        names = side.names(points)
        self.book("masked", owner.id, points, points=len(points) // POINT)
        self.home.write(_NAMES, b"".join(names))
        return b"".join(sorted(names))

    def store(self, body: Mapping[str, Any], spine: bytes) -> None:
        """Find the own customers in the union, and hold on to it.

        Raises RemoteProtocolError: no_spine, wrong_spine, wrong_length, bad_spine, spine_changed.
        """
        own = self.home.read(_NAMES)
        if own is None:
            raise remote("no_spine", "a union before this node has named its customers")
        size, share = body.get("size"), body.get("share")
        if type(size) is not int or type(share) is not int or not 0 <= share <= SHARES:
            raise remote("bad_spine")
        slots = slots_of(split(own, NAME), spine, size)
        self.pin(SpineFact(size, spine_hash(spine, self.plan.hash)))
        rows, ids = self.ids()
        if self.home.read(_ASKED) != fingerprint(ids):
            raise remote("spine_changed", "table or consent changed after this node had sent its list")
        order = row_order(ids)
        everyone = np.ones(len(order), dtype=np.bool_)
        self.home.write(SHARE, str(share * self._unchanged_side().size / (SHARES * max(len(ids), 1))).encode())
        if self.me == self.roster.label_owner:
            self.home.write(UNION, spine)
        mine = Spine(size, rows[order], slots[: len(ids)][order], everyone, spine_hash(spine, self.plan.hash))
        write_spine(self.home, mine)

    # -- letters -----------------------------------------------------------------------------------
    def _neighbour(self, step: int) -> str:
        ring = [p.id for p in self.roster.parties]
        return ring[(ring.index(self.me) + step) % len(ring)]

    def _pass_on(self, owner: Party, points: bytes) -> bytes:
        return self.write(self._neighbour(1), _LIST, len(points) // POINT, owner.wire_id + points)

    def _received(self, sealed: bytes) -> tuple[Party, bytes]:
        """Whose list a letter holds, and its points: as many as their party signed for."""
        sizes = self.home.read(_SIZES)
        if sizes is None:
            raise remote("bad_order", "a list before the lists' sizes")
        letter = self.open(self._neighbour(-1), _LIST, sealed)
        owner = next((p for p in self.roster.parties if letter.body.startswith(p.wire_id)), None)
        if owner is None:
            raise remote("unknown_party", "whose list")
        if letter.size != json.loads(sizes)[owner.id]:
            raise remote("bad_size", "a list of another size than its party signed for")
        if len(letter.body) != body_size(_LIST, letter.size, 0):
            raise remote("wrong_length", "list")
        return owner, letter.body[len(owner.wire_id) :]

    # -- this node's side --------------------------------------------------------------------------
    def _unchanged_side(self) -> Holder:
        """Raises RemoteProtocolError("spine_changed") where table or consent changed since the list was announced."""
        _, ids = self.ids()
        if self.home.read(_ASKED) != fingerprint(ids):
            raise remote("spine_changed", "table or consent changed after this node had announced its list")
        return self._side(ids)

    def _side(self, ids: Ids) -> Holder:
        lasting = keystream_source(self.home.derive("union", self.roster.hash))
        return Holder(ids, self.roster.hash, lasting, self.rand())
