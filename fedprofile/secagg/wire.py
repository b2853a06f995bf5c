"""The canonical encoding of fps1: ``"fps1" || version || type tag || fields``.

A field is a 4-byte big-endian length and its bytes, in an order fixed by the type; integers are
big-endian and of fixed width, floats IEEE 754 binary64, a list is its count followed by its items.
Everything that is not exactly this is refused, so a decoded message encodes to the same bytes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

from fedprofile.errors import ProtocolError
from fedprofile.secagg.codes import remote
from fedprofile.types import Party, Roster, digest

Buffer: TypeAlias = bytes | bytearray | memoryview
Items: TypeAlias = tuple[tuple[str, bytes], ...]

MAGIC = b"fps1"
VERSION = 1
HASH = 32
ID = 16
SIGNATURE = 64
ZERO_ID = bytes(ID)
ZERO_HASH = bytes(HASH)
MAX_MEMBERS = 1024
MAX_TEXT = 256
MAX_VECTOR = 1 << 31
MAX_SMALL = 1 << 22

TAGS = {
    "SetupReq": 1,
    "KeyAd": 2,
    "KeyBundle": 3,
    "KeyOpen": 4,
    "OpenBundle": 5,
    "Round": 6,
    "Upload": 7,
    "MaskedSum": 8,
    "Complaint": 9,
    "Transcript": 10,
    "ResilientUpload": 11,
    "Survivors": 12,
    "Agree": 13,
    "Open": 14,
    "Reveal": 15,
    "Suspended": 16,
}
_TYPES = {tag: name for name, tag in TAGS.items()}


def message_type(data: Buffer) -> str:
    """The type that the first bytes claim. Raises RemoteProtocolError for anything that is not fps1 version 1."""
    head = bytes(memoryview(data)[: len(MAGIC) + 2])
    if len(head) != len(MAGIC) + 2 or not head.startswith(MAGIC):
        raise remote("malformed")
    if head[4] != VERSION:
        raise remote("unknown_version")
    if head[5] not in _TYPES:
        raise remote("unknown_type")
    return _TYPES[head[5]]


def claims(data: Buffer, type: str) -> bool:
    """Whether the first bytes claim to be an fps1 message of this type."""
    head = MAGIC + bytes((VERSION, TAGS[type]))
    return bytes(memoryview(data)[: len(head)]) == head


class Writer:
    """Appends fields; ``done`` joins them once, so a large field is copied once."""

    def __init__(self, type: str = "") -> None:
        self._parts: list[Buffer] = [MAGIC + bytes((VERSION, TAGS[type]))] if type else []

    def put(self, value: Buffer) -> Writer:
        self._parts += [memoryview(value).nbytes.to_bytes(4, "big"), value]
        return self

    def put_parts(self, parts: list[Buffer]) -> Writer:
        """One field that comes in pieces: a vector inside it is still copied once only."""
        self._parts.append(sum(memoryview(p).nbytes for p in parts).to_bytes(4, "big"))
        self._parts += parts
        return self

    def u8(self, value: int) -> Writer:
        return self.put(value.to_bytes(1, "big"))

    def u32(self, value: int) -> Writer:
        return self.put(value.to_bytes(4, "big"))

    def u64(self, value: int) -> Writer:
        return self.put(value.to_bytes(8, "big"))

    def f64(self, value: float) -> Writer:
        return self.put(struct.pack(">d", value))

    def text(self, value: str) -> Writer:
        return self.put(value.encode())

    def parts(self) -> list[Buffer]:
        return list(self._parts)

    def done(self) -> bytes:
        return b"".join(self._parts)


class Reader:
    """Takes fields in order; every deviation raises RemoteProtocolError."""

    def __init__(self, data: Buffer, type: str, maximum: int) -> None:
        self._view = memoryview(data).cast("B")
        if message_type(data) != type:
            raise remote("wrong_type", f"expected {type}")
        if self._view.nbytes > maximum:
            raise remote("too_large", type)
        self._type, self._at = type, len(MAGIC) + 2

    def view(self, size: int | None = None, maximum: int = MAX_VECTOR) -> memoryview:
        """The next field without a copy; ``size`` is exact where given."""
        start = self._at + 4
        length = int.from_bytes(self._view[self._at : start], "big")
        if (size is not None and length != size) or length > maximum or start + length > self._view.nbytes:
            raise remote("wrong_length", self._type)
        self._at = start + length
        return self._view[start : self._at]

    def take(self, size: int | None = None, maximum: int = MAX_VECTOR) -> bytes:
        return bytes(self.view(size, maximum))

    def integer(self, width: int) -> int:
        return int.from_bytes(self.view(width), "big")

    def f64(self) -> float:
        return float(struct.unpack(">d", self.view(8))[0])

    def text(self) -> str:
        try:
            return self.take(maximum=MAX_TEXT).decode()
        except UnicodeDecodeError:
            raise remote("malformed", self._type) from None

    def count(self, maximum: int = MAX_MEMBERS) -> int:
        n = self.integer(4)
        if n > maximum:
            raise remote("too_large", self._type)
        return n

    @property
    def more(self) -> bool:
        """Whether a field follows: the last ones of a hybrid set-up are absent without it."""
        return self._at != self._view.nbytes

    def end(self) -> None:
        if self.more:
            raise remote("trailing_bytes", self._type)


@lru_cache(maxsize=4096)
def party_wire_id(party: str) -> bytes:
    """``Party.wire_id`` from the id alone."""
    return Party(party, "", "", b"").wire_id


@lru_cache(maxsize=4096)
def role_wire_id(role: str) -> bytes:
    """16 bytes that stand for a role; zeros for all parties."""
    return digest("role/1", role.encode())[:ID] if role else ZERO_ID


@lru_cache(maxsize=64)
def _names(roster: Roster) -> tuple[dict[bytes, str], dict[bytes, str]]:
    return {p.wire_id: p.id for p in roster.parties}, {role_wire_id(p.role): p.role for p in roster.parties}


def party_of(roster: Roster, wire_id: bytes) -> str:
    """The party id behind a wire id. Raises RemoteProtocolError("unknown_party")."""
    try:
        return _names(roster)[0][wire_id]
    except KeyError:
        raise remote("unknown_party") from None


def role_of(roster: Roster, wire_id: bytes) -> str:
    """The role behind a wire id, "" for zeros. Raises RemoteProtocolError("unknown_party")."""
    if wire_id == ZERO_ID:
        return ""
    try:
        return _names(roster)[1][wire_id]
    except KeyError:
        raise remote("unknown_party", "role") from None


def wire_order(parties: tuple[str, ...]) -> tuple[str, ...]:
    """Party ids in the order of their wire ids, the one order of every list on the wire and of mask signs."""
    return tuple(sorted(parties, key=party_wire_id))


def put_parties(w: Writer, parties: tuple[str, ...]) -> None:
    w.u32(len(parties))
    for party in wire_order(parties):
        w.put(party_wire_id(party))


def take_parties(r: Reader, roster: Roster) -> tuple[str, ...]:
    """A list of parties in strictly increasing wire order."""
    ids = [r.take(ID) for _ in range(r.count())]
    ensure_increasing(ids)
    names = _names(roster)[0]
    if not names.keys() >= set(ids):
        raise remote("unknown_party")
    return tuple(names[i] for i in ids)


def put_items(w: Writer, items: Items) -> None:
    """(party, bytes) each, in wire order."""
    w.u32(len(items))
    for party, data in items:
        w.put(party_wire_id(party)).put(data)


def take_items(r: Reader, roster: Roster, size: int | None = None) -> Items:
    """``size`` is that of every item where given."""
    raw = [(r.take(ID), r.take(size, MAX_SMALL)) for _ in range(r.count())]
    ensure_increasing([wire_id for wire_id, _ in raw])
    return tuple((party_of(roster, wire_id), data) for wire_id, data in raw)


def ensure_increasing(keys: list[bytes]) -> None:
    """Refuses duplicates and any order but the one canonical one."""
    for a, b in pairwise(keys):
        if a == b:
            raise remote("duplicate")
        if a > b:
            raise remote("wrong_order")


def ensure_hash(error: ProtocolError, *values: bytes) -> None:
    """Raises ``error`` unless every value has 32 bytes."""
    if any(len(v) != HASH for v in values):
        raise error
