"""The messages that let a round open without those who vanished (section 5.5)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from fedprofile.secagg.identity import Identity, verify
from fedprofile.secagg.round_messages import Upload, put_round_id, take_round_id
from fedprofile.secagg.setup_messages import Signed
from fedprofile.secagg.wire import (
    HASH,
    ID,
    MAX_SMALL,
    SIGNATURE,
    Buffer,
    Items,
    Reader,
    Writer,
    claims,
    party_of,
    party_wire_id,
    put_items,
    put_parties,
    take_items,
    take_parties,
)
from fedprofile.types import Roster, RoundId


@dataclass(frozen=True)
class Agree(Signed):
    """Node -> coordinator: this node lets the round H open over ``survivors`` and over no other set."""

    TYPE: ClassVar[str] = "Agree"
    MAX: ClassVar[int] = 1 << 16
    id: RoundId
    party: str
    h: bytes
    survivors: tuple[str, ...]
    signature: bytes = b""

    def body(self) -> Writer:
        w = Writer(self.TYPE)
        put_round_id(w, self.id)
        w.put(party_wire_id(self.party)).put(self.h)
        put_parties(w, self.survivors)
        return w

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        id, party, h = take_round_id(r, roster), party_of(roster, r.take(ID)), r.take(HASH)
        message = cls(id, party, h, take_parties(r, roster), r.take(SIGNATURE))
        r.end()
        return message


@dataclass(frozen=True)
class ResilientUpload:
    """Node -> coordinator: an Upload, its secrets shared among the holders, and consent to the full cohort.

    ``consent`` is the signature of an Agree over all contributors, empty where the graph is a ring. ``checks``: 16
    bytes for each secret. ``shares``: holder -> bytes sealed for it, none for a holder that derives its shares.
    ``signature`` covers them all; the Upload has its own.
    """

    TYPE: ClassVar[str] = "ResilientUpload"
    upload: Upload
    consent: bytes
    checks: bytes
    shares: Items = field(repr=False)
    signature: bytes = b""

    def _body(self) -> Writer:
        w = Writer(self.TYPE)
        put_round_id(w, self.upload.id)
        w.put(party_wire_id(self.upload.party)).put(self.upload.h).put(self.consent).put(self.checks)
        put_items(w, self.shares)
        return w

    def signed(self, identity: Identity) -> Self:
        return replace(self, signature=identity.sign(self.TYPE, self._body().done()))

    def verify(self, roster: Roster) -> None:
        """Raises RemoteProtocolError("bad_signature"); ``upload`` is verified on its own."""
        key = roster.party(self.upload.party).sign_pk
        verify(key, self.TYPE, self._body().done(), self.signature)

    def encode(self) -> bytes:
        w = Writer(self.TYPE).put(self.consent).put(self.checks)
        put_items(w, self.shares)
        return w.put(self.signature).put_parts(self.upload.parts()).done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        """The vector is a view into ``data``."""
        r = Reader(data, cls.TYPE, 1 << 31)
        consent, checks = r.take(maximum=SIGNATURE), r.take(maximum=MAX_SMALL)
        shares, signature = take_items(r, roster), r.take(SIGNATURE)
        message = cls(Upload.decode(r.view(), roster), consent, checks, shares, signature)
        r.end()
        return message


def decode_upload(data: Buffer, roster: Roster) -> Upload:
    """The Upload in what a node answers a Round with, in either profile; nothing is verified."""
    return Upload.decode(data, roster) if claims(data, Upload.TYPE) else ResilientUpload.decode(data, roster).upload


@dataclass(frozen=True)
class Survivors:
    """Coordinator -> node: who uploaded; asks each of them to agree."""

    TYPE: ClassVar[str] = "Survivors"
    MAX: ClassVar[int] = 1 << 16
    id: RoundId
    h: bytes
    survivors: tuple[str, ...]

    def encode(self) -> bytes:
        w = Writer(self.TYPE)
        put_round_id(w, self.id)
        w.put(self.h)
        put_parties(w, self.survivors)
        return w.done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        message = cls(take_round_id(r, roster), r.take(HASH), take_parties(r, roster))
        r.end()
        return message


@dataclass(frozen=True)
class Open:
    """Coordinator -> node: the set that was agreed, the signatures that prove it, and the shares sealed for the node.

    ``signatures``: party -> signature of its Agree. ``shares``: owner -> bytes, from each survivor that seals for it.
    """

    TYPE: ClassVar[str] = "Open"
    MAX: ClassVar[int] = MAX_SMALL
    id: RoundId
    h: bytes
    survivors: tuple[str, ...]
    signatures: Items
    shares: Items = field(repr=False)

    def encode(self) -> bytes:
        w = Writer(self.TYPE)
        put_round_id(w, self.id)
        w.put(self.h)
        put_parties(w, self.survivors)
        put_items(w, self.signatures)
        put_items(w, self.shares)
        return w.done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        id, h, survivors = take_round_id(r, roster), r.take(HASH), take_parties(r, roster)
        message = cls(id, h, survivors, take_items(r, roster, SIGNATURE), take_items(r, roster))
        r.end()
        return message


@dataclass(frozen=True)
class Reveal(Signed):
    """Node -> coordinator: for each survivor whose holder it is, shares of what removes that survivor's noise.

    ``shares``: owner -> share of its self mask's seed, then of each pad key that it has with a dropped
    neighbour, in wire order, 33 bytes each.
    """

    TYPE: ClassVar[str] = "Reveal"
    MAX: ClassVar[int] = MAX_SMALL
    id: RoundId
    party: str
    h: bytes
    survivors: tuple[str, ...]
    shares: Items = field(repr=False)
    signature: bytes = b""

    def body(self) -> Writer:
        w = Writer(self.TYPE)
        put_round_id(w, self.id)
        w.put(party_wire_id(self.party)).put(self.h)
        put_parties(w, self.survivors)
        put_items(w, self.shares)
        return w

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        id, party, h = take_round_id(r, roster), party_of(roster, r.take(ID)), r.take(HASH)
        message = cls(id, party, h, take_parties(r, roster), take_items(r, roster), r.take(SIGNATURE))
        r.end()
        return message
