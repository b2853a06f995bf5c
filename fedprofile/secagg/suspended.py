"""A resilient sum whose survivors are named, as bytes: what another process of the coordinator opens it from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from fedprofile.secagg.round_messages import put_layout, put_round_id, take_layout, take_round_id
from fedprofile.secagg.wire import (
    HASH,
    MAX_SMALL,
    SIGNATURE,
    Buffer,
    Items,
    Reader,
    Writer,
    party_of,
    party_wire_id,
    put_items,
    put_parties,
    take_items,
    take_parties,
)
from fedprofile.types import Layout, Roster, RoundId


@dataclass(frozen=True)
class Suspended:
    """Kept before the nodes are asked for what they give for one set only; it never crosses the wire.

    ``total``: the sum of the survivors' masked vectors. ``consents`` and ``agreed``: party -> signature. ``checks``:
    survivor -> those of its secrets. ``sealed``: survivor -> (holder -> bytes sealed for it). Nothing of it opens
    without the nodes.
    """

    TYPE: ClassVar[str] = "Suspended"
    t0: bytes
    id: RoundId
    h: bytes
    contributors: tuple[str, ...]
    survivors: tuple[str, ...]
    layout: Layout
    consents: Items
    agreed: Items
    checks: Items
    sealed: tuple[tuple[str, Items], ...] = field(repr=False)
    total: Buffer = field(repr=False)

    def encode(self) -> bytes:
        w = Writer(self.TYPE).put(self.t0)
        put_round_id(w, self.id)
        w.put(self.h)
        put_parties(w, self.contributors)
        put_parties(w, self.survivors)
        put_layout(w, self.layout)
        put_items(w, self.consents)
        put_items(w, self.agreed)
        put_items(w, self.checks)
        w.u32(len(self.sealed))
        for owner, items in self.sealed:
            w.put(party_wire_id(owner))
            put_items(w, items)
        return w.put(self.total).done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, 1 << 31)
        t0, id, h = r.take(HASH), take_round_id(r, roster), r.take(HASH)
        contributors, survivors, layout = take_parties(r, roster), take_parties(r, roster), take_layout(r)
        consents, agreed = (take_items(r, roster, SIGNATURE) for _ in range(2))
        checks = take_items(r, roster)
        sealed = tuple((party_of(roster, r.take(maximum=MAX_SMALL)), take_items(r, roster)) for _ in range(r.count()))
        message = cls(t0, id, h, contributors, survivors, layout, consents, agreed, checks, sealed, r.take())
        r.end()
        return message
