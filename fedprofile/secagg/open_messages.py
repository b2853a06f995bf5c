"""The last two messages of a set-up (section 5.4): nonces and, in a hybrid one, ML-KEM ciphertexts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from fedprofile.secagg.codes import remote
from fedprofile.secagg.setup_messages import KEM_CT, Signed, read_items, write_items
from fedprofile.secagg.wire import (
    HASH,
    ID,
    MAX_SMALL,
    SIGNATURE,
    Buffer,
    Items,
    Reader,
    Writer,
    ensure_increasing,
    party_of,
    party_wire_id,
    put_items,
    take_items,
)
from fedprofile.types import Roster


@dataclass(frozen=True)
class KeyOpen(Signed):
    """Node -> coordinator: opens the commitment and fixes the bundle that it answers.

    In a hybrid set-up: ``kem_hashes``, the SHA-256 of the ML-KEM ciphertext for each later member of the
    cohort in wire order, signed and part of T0; and ``ciphertexts``, which only the coordinator sees here.
    """

    TYPE: ClassVar[str] = "KeyOpen"
    MAX: ClassVar[int] = MAX_SMALL
    run_id: bytes
    party: str
    nonce: bytes = field(repr=False)
    bundle_hash: bytes
    signature: bytes = b""
    kem_hashes: tuple[bytes, ...] | None = None
    ciphertexts: Items = field(default=(), repr=False)

    def body(self) -> Writer:
        w = Writer(self.TYPE).put(self.run_id).put(party_wire_id(self.party)).put(self.nonce).put(self.bundle_hash)
        return w if self.kem_hashes is None else w.put(b"".join(self.kem_hashes))

    def encode(self) -> bytes:
        w = self.body().put(self.signature)
        if self.ciphertexts:
            put_items(w, self.ciphertexts)
        return w.done()

    @property
    def public(self) -> Self:
        """What every member sees, and T0 hashes."""
        return replace(self, ciphertexts=())

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        run_id, party, nonce, bundle = r.take(HASH), party_of(roster, r.take(ID)), r.take(32), r.take(HASH)
        signature, hashes = r.take(), None
        if r.more:
            joined, signature = signature, r.take()
            hashes = tuple(joined[at : at + HASH] for at in range(0, len(joined), HASH))
        ciphertexts = _take_ciphertexts(r, roster)
        r.end()
        if len(signature) != SIGNATURE or (hashes and len(hashes[-1]) != HASH):
            raise remote("wrong_length", cls.TYPE)
        return cls(run_id, party, nonce, bundle, signature, hashes, ciphertexts)


@dataclass(frozen=True)
class OpenBundle:
    """Coordinator -> node: every KeyOpen of the cohort, in wire order; hybrid, the ciphertexts for this node."""

    TYPE: ClassVar[str] = "OpenBundle"
    MAX: ClassVar[int] = MAX_SMALL
    items: tuple[KeyOpen, ...]
    ciphertexts: Items = field(default=(), repr=False)

    def encode(self) -> bytes:
        w = write_items(self.TYPE, self.items)
        if self.ciphertexts:
            put_items(w, self.ciphertexts)
        return w.done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        items = tuple(KeyOpen.decode(d, roster) for d in read_items(r))
        ensure_increasing([party_wire_id(opened.party) for opened in items])
        ciphertexts = _take_ciphertexts(r, roster)
        r.end()
        if any(opened.ciphertexts for opened in items):
            raise remote("malformed", cls.TYPE)
        return cls(items, ciphertexts)


def _take_ciphertexts(r: Reader, roster: Roster) -> Items:
    """The last field of a message where there is any; an empty list is left out, so that the encoding stays the one."""
    if not r.more:
        return ()
    ciphertexts = take_items(r, roster, KEM_CT)
    if not ciphertexts:
        raise remote("malformed", "no ciphertexts")
    return ciphertexts
