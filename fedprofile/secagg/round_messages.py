"""The messages of a round (sections 5.5 and 9.2): Round, Upload and, for score sums, MaskedSum."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Self, get_args

from fedprofile.secagg.codes import remote
from fedprofile.secagg.identity import Identity, verify
from fedprofile.secagg.tree import tree_root
from fedprofile.secagg.wire import (
    HASH,
    ID,
    SIGNATURE,
    ZERO_HASH,
    ZERO_ID,
    Buffer,
    Reader,
    Writer,
    party_of,
    party_wire_id,
    put_parties,
    role_of,
    role_wire_id,
    take_parties,
)
from fedprofile.types import KINDS, Layout, Ring, Roster, RoundId, Segment, digest

MAX_SEGMENTS = 1 << 12
MAX_DIMS = 8
MAX_MODEL = 1 << 30


def put_round_id(w: Writer, id: RoundId) -> None:
    w.put(id.run_id).u8(KINDS.index(id.kind)).put(role_wire_id(id.scope))
    w.put(party_wire_id(id.opener) if id.opener else ZERO_ID).u32(id.t).u32(id.attempt)


def take_round_id(r: Reader, roster: Roster) -> RoundId:
    run_id, kind, scope, opener = r.take(HASH), r.integer(1), r.take(ID), r.take(ID)
    if kind >= len(KINDS):
        raise remote("malformed", "kind")
    party = party_of(roster, opener) if opener != ZERO_ID else ""
    return RoundId(run_id, KINDS[kind], role_of(roster, scope), r.integer(4), r.integer(4), party)


def put_layout(w: Writer, layout: Layout) -> None:
    w.u32(len(layout.segments))
    for s in layout.segments:
        w.put(s.name.encode()).u32(len(s.shape))
        for n in s.shape:
            w.u32(n)
        w.u8(s.ring).f64(s.clip).f64(s.scale)


def take_layout(r: Reader) -> Layout:
    segments = []
    for _ in range(r.count(MAX_SEGMENTS)):
        name, shape, ring = r.text(), tuple(r.integer(4) for _ in range(r.count(MAX_DIMS))), r.integer(1)
        if ring not in get_args(Ring):
            raise remote("bad_layout", "ring")
        clip, scale = r.f64(), r.f64()
        if not (math.isfinite(clip) and math.isfinite(scale)):
            raise remote("bad_layout", "clip or scale")
        segments.append(Segment(name, shape, ring, clip, scale))  # type: ignore[arg-type]
    return Layout(tuple(segments))


@dataclass(frozen=True)
class Round:
    """Coordinator -> node: what is summed, over whom, for whom, under which model.

    ``cohort`` holds party ids in wire order and includes the opener of a score sum, who takes part
    in the masks only. The hashes that a plan does not use are 32 zero bytes.
    """

    TYPE: ClassVar[str] = "Round"
    MAX: ClassVar[int] = MAX_MODEL + (1 << 20)
    id: RoundId
    cohort: tuple[str, ...]
    layout: Layout
    model: Buffer = field(repr=False)
    policy_hash: bytes
    audit_head: bytes = ZERO_HASH
    spine_hash: bytes = ZERO_HASH
    bundle_hash: bytes = ZERO_HASH
    epoch: int = 0
    threads: int = field(default=1, repr=False, compare=False)

    @cached_property
    def model_hash(self) -> bytes:
        """Tree root of the model; ``threads``, which is no part of the message, changes speed only."""
        return tree_root(self.model, threads=self.threads)

    @property
    def contributors(self) -> tuple[str, ...]:
        """Who uploads: the cohort without the opener."""
        return tuple(p for p in self.cohort if p != self.id.opener)

    @cached_property
    def header(self) -> bytes:
        """Every field, the model and the layout by hash: what H binds."""
        return self._header(self.id, self.audit_head)

    def _header(self, id: RoundId, audit_head: bytes) -> bytes:
        w = Writer()
        put_round_id(w, id)
        put_parties(w, self.cohort)
        w.put(self.model_hash).put(self.layout.hash).put(self.policy_hash)
        return w.put(audit_head).put(self.spine_hash).put(self.bundle_hash).u64(self.epoch).done()

    @cached_property
    def basis(self) -> bytes:
        """What a retry has to repeat (section 9.3): all of the header but the attempt and the audit head."""
        return digest("fps1/basis", self._header(replace(self.id, attempt=0), ZERO_HASH))

    def bind(self, t0: bytes) -> bytes:
        """H: differs as soon as transcript, model, cohort, layout or any other field does, so masks do not cancel."""
        return digest("fps1/round", t0, self.header)

    def encode(self) -> bytes:
        w = Writer(self.TYPE).put(self.header)
        put_round_id(w, self.id)
        put_parties(w, self.cohort)
        w.put(self.policy_hash).put(self.audit_head).put(self.spine_hash).put(self.bundle_hash).u64(self.epoch)
        put_layout(w, self.layout)
        return w.put(self.model).done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster, *, threads: int = 1) -> Self:
        """``model`` is a view into ``data``.

        Raises RemoteProtocolError, "bad_model_hash" where header and content differ.
        """
        r = Reader(data, cls.TYPE, cls.MAX)
        header, id, cohort = r.take(), take_round_id(r, roster), take_parties(r, roster)
        policy, audit, spine, bundle = (r.take(HASH) for _ in range(4))
        epoch, layout, model = r.integer(8), take_layout(r), r.view(maximum=MAX_MODEL)
        r.end()
        message = cls(id, cohort, layout, model, policy, audit, spine, bundle, epoch, threads)
        if message.header != header:
            raise remote("bad_model_hash", "header and content differ")
        return message


@dataclass(frozen=True)
class Upload:
    """Node -> coordinator: one masked vector. Its size depends on the layout alone.

    The signature covers everything but ``y``, and ``y`` by its tree root; ``audit_head`` is the node's own.
    """

    TYPE: ClassVar[str] = "Upload"
    id: RoundId
    party: str
    h: bytes
    audit_head: bytes
    spine_hash: bytes
    bundle_hash: bytes
    epoch: int
    root: bytes
    signature: bytes
    y: Buffer = field(repr=False)

    def body(self) -> bytes:
        return self._fields().done()

    def _fields(self) -> Writer:
        w = Writer(self.TYPE)
        put_round_id(w, self.id)
        w.put(party_wire_id(self.party)).put(self.h).put(self.audit_head)
        return w.put(self.spine_hash).put(self.bundle_hash).u64(self.epoch).put(self.root)

    @classmethod
    def of(
        cls, round: Round, party: str, h: bytes, audit_head: bytes, y: Buffer, identity: Identity, *, threads: int = 1
    ) -> Self:
        spine, bundle, root = round.spine_hash, round.bundle_hash, tree_root(y, threads=threads)
        unsigned = cls(round.id, party, h, audit_head, spine, bundle, round.epoch, root, b"", y)
        return replace(unsigned, signature=identity.sign(cls.TYPE, unsigned.body()))

    def parts(self) -> list[Buffer]:
        """What ``encode`` joins: the vector is one of them, not yet copied."""
        return self._fields().put(self.signature).put(self.y).parts()

    def encode(self) -> bytes:
        return b"".join(self.parts())

    def verify(self, roster: Roster, *, threads: int = 1) -> None:
        """Raises RemoteProtocolError: bad_root where y is not what was signed, or bad_signature."""
        if tree_root(self.y, threads=threads) != self.root:
            raise remote("bad_root", self.TYPE)
        verify(roster.party(self.party).sign_pk, self.TYPE, self.body(), self.signature)

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        """``y`` is a view into ``data``."""
        r = Reader(data, cls.TYPE, 1 << 31)
        id, party = take_round_id(r, roster), party_of(roster, r.take(ID))
        h, audit, spine, bundle = (r.take(HASH) for _ in range(4))
        epoch, root, signature = r.integer(8), r.take(HASH), r.take(SIGNATURE)
        message = cls(id, party, h, audit, spine, bundle, epoch, root, signature, r.view())
        r.end()
        return message


@dataclass(frozen=True)
class MaskedSum:
    """Coordinator -> opener: the sum of the others' masked vectors, still under the opener's own pads.

    ``root`` finds damage on the way; it proves nothing about an honest sum.
    """

    TYPE: ClassVar[str] = "MaskedSum"
    id: RoundId
    h: bytes
    y: Buffer = field(repr=False)

    def encode(self, *, threads: int = 1) -> bytes:
        w = Writer(self.TYPE)
        put_round_id(w, self.id)
        return w.put(self.h).put(tree_root(self.y, threads=threads)).put(self.y).done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster, *, threads: int = 1) -> Self:
        r = Reader(data, cls.TYPE, 1 << 31)
        id, h, root = take_round_id(r, roster), r.take(HASH), r.take(HASH)
        message = cls(id, h, r.view())
        r.end()
        if tree_root(message.y, threads=threads) != root:
            raise remote("bad_root", cls.TYPE)
        return message
