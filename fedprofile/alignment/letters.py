"""What two parties write to each other while they align: signed here, then sealed so that the coordinator only carries.

``"fpa1" || type || suite || plan hash || sender || receiver || size || body || signature``, all but the body of fixed
length. The size is what the sender vouches for: how many points it asks about, how many slots the spine has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fedprofile.alignment.curve import POINT
from fedprofile.secagg.codes import remote
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import Party, canonical

LetterType = Literal["points", "answer", "claims", "views", "list"]
TYPES: tuple[LetterType, ...] = ("points", "answer", "claims", "views", "list")
MAGIC = b"fpa1"
SIGNED = "alignment"
SIGNED_SPINE = "spine"
SIGNED_LIST = "list"
PSEUDONYM, CLAIM = 16, 16
_HASH, _ID, _SIZE, _SIGNATURE = 32, 16, 4, 64
_HEAD = len(MAGIC) + 2 + _HASH + 2 * _ID + _SIZE
OVERHEAD = _HEAD + _SIGNATURE
"""Bytes of a letter beside its body, before it is sealed."""
SMALLEST = 256


def size_class(n: int) -> int:
    """The size that a list of ``n`` is padded to: eight classes an octave, so at most an eighth more, at least 256."""
    if n <= SMALLEST:
        return SMALLEST
    step = 1 << ((n - 1).bit_length() - 4)
    return -(-n // step) * step


def body_size(type_: LetterType, points: int, slots: int) -> int:
    """Bytes of a body, given the (padded) numbers of points asked about and of slots."""
    return {
        "points": points * POINT,
        "answer": points * POINT + slots * PSEUDONYM,
        "claims": slots * CLAIM,
        "views": -(-slots // 8),
        "list": _ID + points * POINT,
    }[type_]


@dataclass(frozen=True)
class Letter:
    """One letter as its receiver reads it; ``size`` is points for ``points``, ``answer`` and ``list``, else slots."""

    type: LetterType
    suite: int
    plan: bytes
    sender: Party
    receiver: Party
    size: int
    body: bytes = field(repr=False)

    def encode(self, identity: Identity) -> bytes:
        """The letter with its sender's signature."""
        plain = self._head() + self.body
        return plain + identity.sign(SIGNED, plain)

    def _head(self) -> bytes:
        kind = bytes([TYPES.index(self.type), self.suite])
        parties = self.sender.wire_id + self.receiver.wire_id
        return MAGIC + kind + self.plan + parties + self.size.to_bytes(_SIZE, "big")

    @staticmethod
    def decode(data: bytes, type_: LetterType, suite: int, plan: bytes, sender: Party, receiver: Party) -> Letter:
        """The letter that was expected, and no other.

        Raises RemoteProtocolError: bad_letter, wrong_letter (type or suite), wrong_run, wrong_party, bad_signature,
        bad_size (a padded size is one of the classes).
        """
        if len(data) < OVERHEAD or not data.startswith(MAGIC):
            raise remote("bad_letter")
        plain, signature = data[:-_SIGNATURE], data[-_SIGNATURE:]
        size = int.from_bytes(plain[_HEAD - _SIZE : _HEAD], "big")
        letter = Letter(type_, suite, plan, sender, receiver, size, plain[_HEAD:])
        expected, at = letter._head(), len(MAGIC) + 2
        for code, end in (("wrong_letter", at), ("wrong_run", at + _HASH), ("wrong_party", _HEAD)):
            if plain[:end] != expected[:end]:
                raise remote(code, type_)
        verify(sender.sign_pk, SIGNED, plain, signature)
        if size != size_class(size):
            raise remote("bad_size", type_)
        return letter


@dataclass(frozen=True)
class SpineFact:
    """What everybody may know of a spine: how many slots it has, padding included, and its hash (32 bytes)."""

    size: int
    hash: bytes

    def signed_bytes(self, plan: bytes) -> bytes:
        return canonical({"plan": plan.hex(), **self.to_body()})

    def to_body(self) -> dict[str, Any]:
        return {"size": self.size, "hash": self.hash.hex()}

    @staticmethod
    def verified(body: dict[str, Any], signature: bytes, plan: bytes, owner: Party) -> SpineFact:
        """The fact in a message's body. Raises RemoteProtocolError: bad_spine, bad_signature."""
        size, mark = body.get("size"), body.get("hash")
        if type(size) is not int or not 0 < size < 1 << 32 or not isinstance(mark, str) or len(mark) != 2 * _HASH:
            raise remote("bad_spine")
        try:
            fact = SpineFact(size, bytes.fromhex(mark))
        except ValueError:
            raise remote("bad_spine") from None
        verify(owner.sign_pk, SIGNED_SPINE, fact.signed_bytes(plan), signature)
        return fact


def list_bytes(plan: bytes, party: Party, size: int) -> bytes:
    """What a party signs of the list of its customers before a union: how long it is, padding included."""
    return canonical({"plan": plan.hex(), "party": party.id, "size": size})


def verified_size(size: object, signature: bytes, plan: bytes, party: Party) -> int:
    """The announced size of a party's list. Raises RemoteProtocolError: bad_size, bad_signature."""
    if type(size) is not int or not 0 < size < 1 << 32 or size != size_class(size):
        raise remote("bad_size", "a list of customers")
    verify(party.sign_pk, SIGNED_LIST, list_bytes(plan, party, size), signature)
    return size
