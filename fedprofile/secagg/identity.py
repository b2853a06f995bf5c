"""Ed25519 identities pinned in a roster, and the signatures that make a roster version valid (section 9.6)."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.poly1305 import Poly1305

from fedprofile.secagg.codes import local, remote
from fedprofile.secagg.wire import SIGNATURE, Buffer
from fedprofile.types import Party, Roster, digest

ROSTER_TYPE = "Roster"
_P = (1 << 255) - 19


def _domain(type: str, canonical: bytes) -> bytes:
    return b"fps1/" + type.encode() + b"\0" + canonical


class Identity:
    """A party's long-term signing key. ``sign_pk`` is the raw public key (32 bytes); its repr shows nothing."""

    __slots__ = ("_key", "_mac_key", "sign_pk")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._mac_key = digest("identity-mac/1", key.private_bytes_raw())
        self.sign_pk = key.public_key().public_bytes_raw()

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte secret (RFC 8032 private key). Raises LocalProtocolError for another length."""
        if len(seed) != 32:
            raise local("bad_random", "an identity needs 32 bytes")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def generate(cls) -> Identity:
        return cls.from_seed(secrets.token_bytes(32))

    def sign(self, type: str, canonical: bytes) -> bytes:
        """Ed25519 over ``"fps1/" || type || 0x00 || canonical``; 64 bytes."""
        return self._key.sign(_domain(type, canonical))

    def mac(self, domain: str, *parts: bytes) -> bytes:
        """HMAC-SHA256 under a key that only this node has: lets a journal recognise a value without holding it."""
        return hmac.digest(self._mac_key, digest(domain, *parts), "sha256")

    def tag(self, data: Buffer, domain: str, *parts: bytes) -> bytes:
        """Poly1305 of ``data``, 16 bytes (RFC 8439), under a key of (domain, parts): a MAC of a vector for a tenth of
        what a hash costs. Of all data under one (domain, parts) only one tag may ever be written down.
        """
        return Poly1305.generate_tag(self.mac(domain, *parts), data)

    def __repr__(self) -> str:
        return "Identity()"

    def __reduce__(self) -> str:
        raise TypeError("an identity is never serialised")


@lru_cache(maxsize=4096)
def is_weak(pk: bytes) -> bool:
    """Whether bytes are no Ed25519 public key, or one with an order of at most 8, so that anybody can sign under it.

    Verification as in RFC 8032 accepts such keys. The map u = (1 + y) / (1 - y) of RFC 7748, section 4.1,
    keeps the order, and X25519 refuses exactly those points; it takes 1/0 as 0.
    """
    if len(pk) != 32:
        return True
    y = int.from_bytes(pk, "little") % (1 << 255)
    u = (1 + y) * pow(1 - y, _P - 2, _P) % _P
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(u.to_bytes(32, "little")))
    except ValueError:
        return True
    return False


def verify(pk: bytes, type: str, canonical: bytes, sig: bytes) -> None:
    """Raises RemoteProtocolError("bad_signature") unless ``sig`` is the holder of ``pk``'s over type and bytes."""
    try:
        if len(sig) != SIGNATURE or is_weak(pk):
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(pk).verify(sig, _domain(type, canonical))
    except (InvalidSignature, ValueError):
        raise remote("bad_signature", type) from None


def sign_roster(roster: Roster, identities: Mapping[str, Identity]) -> Roster:
    """The roster with a signature of each identity (by party id) added to those that it has."""
    added = [(party, identity.sign(ROSTER_TYPE, roster.hash)) for party, identity in sorted(identities.items())]
    kept = [(party, sig) for party, sig in roster.signatures if party not in identities]
    return replace(roster, signatures=tuple(sorted(kept + added)))


def check_roster(roster: Roster) -> None:
    """Raises LocalProtocolError("bad_roster") for repeated ids, repeated or weak keys, an owner that is no party."""
    keys = [(p.id, p.wire_id, p.sign_pk) for p in roster.parties]
    distinct = all(len(set(column)) == len(keys) for column in zip(*keys, strict=True))
    if not keys or not distinct or any(len(p.sign_pk) != 32 or not p.id for p in roster.parties):
        raise local("bad_roster")
    if any(is_weak(p.sign_pk) for p in roster.parties):
        raise local("bad_roster", "a key of small order, under which anybody can sign")
    if roster.label_owner not in {p.id for p in roster.parties}:
        raise local("bad_roster", "the label owner is no party")


def verify_roster(roster: Roster, previous: Roster | None = None) -> None:
    """Section 9.6: every member of ``previous`` signed; version 1 is signed by all its own.

    Raises RemoteProtocolError: unsigned_roster, unknown_signer, bad_signature, duplicate or wrong_roster;
    LocalProtocolError("bad_roster") where the roster itself makes no sense.
    """
    check_roster(roster)
    expected = (previous.version + 1, previous.hash) if previous else (1, b"")
    if (roster.version, roster.previous) != expected:
        raise remote("wrong_roster", "version or previous hash")
    electors: dict[str, Party] = {p.id: p for p in (previous or roster).parties}
    keys = {p.id: p.sign_pk for p in roster.parties} | {p.id: p.sign_pk for p in electors.values()}
    signers = [party for party, _ in roster.signatures]
    if len(set(signers)) != len(signers):
        raise remote("duplicate", "roster signature")
    if unknown := set(signers) - set(keys):
        raise remote("unknown_signer", f"{len(unknown)} of {len(signers)}")
    for party, sig in roster.signatures:
        verify(keys[party], ROSTER_TYPE, roster.hash, sig)
    if missing := sorted(set(electors) - set(signers)):
        raise remote("unsigned_roster", f"not signed by {', '.join(missing)}")


def verify_members(roster: Roster) -> None:
    """Every party of the roster signed it: all that a newcomer can check of a version from before its time.

    Raises RemoteProtocolError: unsigned_roster or bad_signature; LocalProtocolError("bad_roster").
    """
    check_roster(roster)
    signatures = dict(roster.signatures)
    for party in roster.parties:
        if party.id not in signatures:
            raise remote("unsigned_roster", f"not signed by {party.id}")
        verify(party.sign_pk, ROSTER_TYPE, roster.hash, signatures[party.id])
