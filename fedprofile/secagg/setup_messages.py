"""The first messages of a set-up (section 5.4) and the complaint. Parties appear by id; on the wire by 16 bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from fedprofile.errors import ProtocolError
from fedprofile.secagg.codes import CODES, remote
from fedprofile.secagg.identity import Identity, verify
from fedprofile.secagg.wire import (
    HASH,
    ID,
    SIGNATURE,
    Buffer,
    Reader,
    Writer,
    ensure_increasing,
    party_of,
    party_wire_id,
    put_parties,
    take_parties,
)
from fedprofile.types import Roster

Profile = Literal["strict", "none", "resilient"]
KEM_PK, KEM_CT = 1184, 1088  # FIPS 203, ML-KEM-768
MAX_ITEM = 1 << 16
PROFILES: tuple[Profile, ...] = ("strict", "none", "resilient")
Kem = Literal["x25519", "x25519_mlkem768"]
KEMS: tuple[Kem, ...] = ("x25519", "x25519_mlkem768")


def is_hybrid(kem: str) -> bool:
    """Whether pair keys rest on ML-KEM-768 beside X25519."""
    return kem == "x25519_mlkem768"


@dataclass(frozen=True)
class SetupReq:
    """Coordinator -> node. ``setup`` rises strictly within a run; ``base_t`` is the first t of this set-up.

    ``policy_hash`` is that of the common policy minimum; ``schema_hash`` that of the approved plan. ``hybrid``
    asks for ML-KEM-768 beside X25519; what it adds to a message is absent without it.
    """

    TYPE: ClassVar[str] = "SetupReq"
    MAX: ClassVar[int] = 1 << 16
    run_id: bytes
    setup: int
    base_t: int
    profile: Profile
    roster_hash: bytes
    policy_hash: bytes
    schema_hash: bytes
    cohort: tuple[str, ...]
    hybrid: bool = False

    def encode(self) -> bytes:
        w = Writer(self.TYPE).put(self.run_id).u32(self.setup).u32(self.base_t).u8(PROFILES.index(self.profile))
        w.put(self.roster_hash).put(self.policy_hash).put(self.schema_hash)
        put_parties(w, self.cohort)
        return w.u8(1).done() if self.hybrid else w.done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        run_id, setup, base_t, profile = r.take(HASH), r.integer(4), r.integer(4), r.integer(1)
        if profile >= len(PROFILES):
            raise remote("profile_mismatch", "unknown profile")
        roster_hash, policy_hash, schema_hash = (r.take(HASH) for _ in range(3))
        cohort = take_parties(r, roster)
        hybrid = r.more
        if hybrid and r.integer(1) != 1:
            raise remote("malformed", cls.TYPE)
        r.end()
        hashes = (roster_hash, policy_hash, schema_hash)
        return cls(run_id, setup, base_t, PROFILES[profile], *hashes, cohort, hybrid)


class Signed:
    """A message of one party whose signature is its last field."""

    TYPE: ClassVar[str]
    MAX: ClassVar[int] = 1 << 12
    party: str
    signature: bytes

    def body(self) -> Writer:
        raise NotImplementedError

    def signed(self, identity: Identity) -> Self:
        return replace(self, signature=identity.sign(self.TYPE, self.body().done()))  # type: ignore[type-var]

    def verify(self, roster: Roster) -> None:
        """Raises RemoteProtocolError("bad_signature") against the pinned key of ``party``."""
        verify(roster.party(self.party).sign_pk, self.TYPE, self.body().done(), self.signature)

    def encode(self) -> bytes:
        return self.body().put(self.signature).done()


@dataclass(frozen=True)
class KeyAd(Signed):
    """Node -> coordinator: fresh X25519 keys for masks and for sealing, and a commitment to a nonce.

    ``kem_pk``: the ML-KEM-768 encapsulation key (1184 bytes) in a hybrid set-up.
    """

    TYPE: ClassVar[str] = "KeyAd"
    run_id: bytes
    party: str
    setup_hash: bytes
    pk_mask: bytes
    pk_enc: bytes
    commit: bytes
    signature: bytes = b""
    kem_pk: bytes = b""

    def body(self) -> Writer:
        w = Writer(self.TYPE).put(self.run_id).put(party_wire_id(self.party)).put(self.setup_hash)
        w.put(self.pk_mask).put(self.pk_enc).put(self.commit)
        return w.put(self.kem_pk) if self.kem_pk else w

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        run_id, party = r.take(HASH), party_of(roster, r.take(ID))
        setup_hash, pk_mask, pk_enc, commit = (r.take(32) for _ in range(4))
        kem_pk, signature = b"", r.take()
        if r.more:
            kem_pk, signature = signature, r.take()
        r.end()
        if len(kem_pk) not in (0, KEM_PK) or len(signature) != SIGNATURE:
            raise remote("wrong_length", cls.TYPE)
        return cls(run_id, party, setup_hash, pk_mask, pk_enc, commit, signature, kem_pk)


@dataclass(frozen=True)
class KeyBundle:
    """Coordinator -> node: every KeyAd of the cohort, in wire order."""

    TYPE: ClassVar[str] = "KeyBundle"
    MAX: ClassVar[int] = 1 << 20
    items: tuple[KeyAd, ...]

    def encode(self) -> bytes:
        return write_items(self.TYPE, self.items).done()

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        items = tuple(KeyAd.decode(d, roster) for d in read_items(r))
        r.end()
        ensure_increasing([party_wire_id(ad.party) for ad in items])
        return cls(items)


def write_items(type: str, items: tuple[Signed, ...]) -> Writer:
    w = Writer(type).u32(len(items))
    for item in items:
        w.put(item.encode())
    return w


def read_items(r: Reader) -> list[bytes]:
    return [r.take(maximum=MAX_ITEM) for _ in range(r.count())]


@dataclass(frozen=True)
class Complaint(Signed):
    """Node -> coordinator: a fixed code and the hash of the message refused; at most 4 KiB, no text."""

    TYPE: ClassVar[str] = "Complaint"
    run_id: bytes
    party: str
    code: str
    about: bytes
    signature: bytes = b""

    @classmethod
    def of(cls, run_id: bytes, party: str, error: ProtocolError, about: Buffer, identity: Identity) -> Self:
        """Signed; ``about`` are the bytes that were refused."""
        return cls(run_id, party, error.code, hashlib.sha256(about).digest()).signed(identity)

    def body(self) -> Writer:
        w = Writer(self.TYPE).put(self.run_id).put(party_wire_id(self.party))
        return w.put(self.code.encode()).put(self.about)

    @classmethod
    def decode(cls, data: Buffer, roster: Roster) -> Self:
        r = Reader(data, cls.TYPE, cls.MAX)
        run_id, party, code = r.take(HASH), party_of(roster, r.take(ID)), r.text()
        if code not in CODES:
            raise remote("malformed", "unknown complaint code")
        message = cls(run_id, party, code, r.take(HASH), r.take(SIGNATURE))
        r.end()
        return message
