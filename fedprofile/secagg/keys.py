"""Session keys of one set-up: X25519 agreement, one ratcheted key a peer, one pad key a round (sections 5.4, 9.4)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fedprofile.secagg.codes import remote
from fedprofile.secagg.encoding import Rand, draw
from fedprofile.secagg.masking import Pad
from fedprofile.secagg.open_messages import KeyOpen
from fedprofile.secagg.setup_messages import KeyAd
from fedprofile.secagg.wire import party_wire_id
from fedprofile.types import digest

# ratcheting costs a few microseconds a step and peer: a bound keeps a lying coordinator from burning time
MAX_JUMP = 4096


@dataclass(frozen=True)
class Ephemeral:
    """What a node draws for one set-up: mask key, sealing key and nonce, 32 bytes each, in this order.

    Hybrid: then the seed of an ML-KEM-768 key, 64 bytes (FIPS 203, section 7.1).
    """

    mask: X25519PrivateKey = field(repr=False)
    enc: X25519PrivateKey = field(repr=False)
    nonce: bytes = field(repr=False)
    kem: MLKEM768PrivateKey | None = field(default=None, repr=False)

    @staticmethod
    def draw(rand: Rand, hybrid: bool = False) -> Ephemeral:
        keys = [X25519PrivateKey.from_private_bytes(draw(rand, 32)) for _ in range(2)]
        nonce = draw(rand, 32)
        return Ephemeral(
            keys[0], keys[1], nonce, MLKEM768PrivateKey.from_seed_bytes(draw(rand, 64)) if hybrid else None
        )

    @property
    def commit(self) -> bytes:
        return commitment(self.nonce)

    @property
    def public(self) -> tuple[bytes, bytes]:
        """(pk_mask, pk_enc), raw."""
        return self.mask.public_key().public_bytes_raw(), self.enc.public_key().public_bytes_raw()

    @property
    def kem_pk(self) -> bytes:
        """The raw encapsulation key, empty where the set-up is not hybrid."""
        return self.kem.public_key().public_bytes_raw() if self.kem else b""


def encapsulate(kem_pk: bytes, party: str) -> tuple[bytes, bytes]:
    """(shared secret, ciphertext) for the ML-KEM-768 key of ``party``; the randomness is the operating system's.

    Raises RemoteProtocolError("bad_key") for bytes that are no such key.
    """
    try:
        return MLKEM768PublicKey.from_public_bytes(kem_pk).encapsulate()
    except ValueError:
        raise remote("bad_key", f"party {party!r}") from None


def commitment(nonce: bytes) -> bytes:
    return hashlib.sha256(nonce).digest()


def transcript_hash(ads: tuple[KeyAd, ...], opens: tuple[KeyOpen, ...]) -> bytes:
    """T0 over every KeyAd and KeyOpen in wire order; a KeyAd binds the SetupReq by its hash."""
    return digest("fps1/T0", *(m.encode() for m in ads), *(m.encode() for m in opens))


def expand(key: bytes | bytearray, info: bytes) -> bytes:
    """HKDF-Expand with SHA-256 to 32 bytes (RFC 5869)."""
    return HKDFExpand(SHA256(), 32, info).derive(bytes(key))


class PairKeys:
    """PK_ij at index t for every peer j. Moving on erases the key before; nothing goes back."""

    def __init__(self, me: str, keys: dict[str, bytearray], t: int) -> None:
        self._me, self._keys, self.t = me, keys, t

    @staticmethod
    def agree(
        me: str,
        private: X25519PrivateKey,
        peers: Mapping[str, bytes],
        t0: bytes,
        t: int,
        *,
        kem: Mapping[str, bytes] | None = None,
        own: bytes = b"",
    ) -> PairKeys:
        """PK_ij = HKDF-Extract(T0, X25519(m_i, m_j) || ss_ij), peers: party id -> raw public key.

        ``kem``: party id -> ML-KEM shared secret ss_ij, none where the set-up is not hybrid. ``own``: this
        node's secret (32 bytes) that becomes the key of itself with itself, if any is needed.
        Raises RemoteProtocolError("bad_key") for a key of low order (all-zero agreement, RFC 7748 6.1).
        """
        keys = {}
        for peer, pk in peers.items():
            try:
                shared = private.exchange(X25519PublicKey.from_public_bytes(pk))
            except ValueError:
                raise remote("bad_key", f"party {peer!r}") from None
            keys[peer] = bytearray(hmac.digest(t0, shared + (kem[peer] if kem else b""), "sha256"))
        if own:
            keys[me] = bytearray(hmac.digest(t0, own, "sha256"))
        return PairKeys(me, keys, t)

    def advance(self, t: int) -> None:
        """Ratchets to index ``t`` and erases what lies before.

        Raises RemoteProtocolError: stale_round for an erased index, round_jump for one too far ahead.
        """
        if t < self.t or not self._keys:
            raise remote("stale_round", "the keys of that t are erased")
        if t - self.t > MAX_JUMP:
            raise remote("round_jump")
        for _ in range(t - self.t):
            for key in self._keys.values():
                key[:] = expand(key, b"ratchet")
        self.t = t

    def pads(self, h: bytes, cohort: tuple[str, ...]) -> list[Pad]:
        """(k_ij, sign) for each peer j: k_ij = HKDF-Expand(PK_ij, "mask" || H), + where i < j in wire order."""
        mine = party_wire_id(self._me)
        peers = [p for p in cohort if p != self._me]
        return [(self.derive(p, b"mask" + h), 1 if mine < party_wire_id(p) else -1) for p in peers]

    def derive(self, peer: str, info: bytes) -> bytes:
        """HKDF-Expand of the key with ``peer`` at the present t; 32 bytes."""
        return expand(self._keys[peer], info)

    def erase(self) -> None:
        """Best effort: overwrites what this process holds; the interpreter may have made copies."""
        for key in self._keys.values():
            key[:] = bytes(len(key))
        self._keys = {}

    def __repr__(self) -> str:
        return f"PairKeys({len(self._keys)} peers)"
