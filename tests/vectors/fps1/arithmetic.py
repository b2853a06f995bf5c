"""The arithmetic of fps1 a second time: key schedule, keystream, fixed point, masks, sums; see reference.py."""

from __future__ import annotations

import hashlib
import hmac
import math
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SEGMENT = 1 << 19
Segments = list[dict[str, Any]]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def size(segment: dict[str, Any]) -> int:
    return math.prod(segment["shape"])


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def hkdf_expand(key: bytes, info: bytes) -> bytes:
    """The first block of RFC 5869's output, 32 bytes."""
    return hmac.digest(key, info + b"\1", "sha256")


def pair_key(t0: bytes, private: X25519PrivateKey, public: bytes, steps: int) -> bytes:
    key = hkdf_extract(t0, private.exchange(X25519PublicKey.from_public_bytes(public)))
    for _ in range(steps):
        key = hkdf_expand(key, b"ratchet")
    return key


def keystream(key: bytes, ring: int, segment: int, length: int) -> bytes:
    nonce = ring.to_bytes(4, "big") + segment.to_bytes(8, "big")
    counters = b"".join(nonce + (2 + i).to_bytes(4, "big") for i in range(-(-length // 16)))
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(counters)[:length]


def pad(key: bytes, ring: int, count: int) -> list[int]:
    width, stream = ring // 8, b""
    for segment in range(-(-count // SEGMENT)):
        stream += keystream(key, ring, segment, min(SEGMENT, count - segment * SEGMENT) * width)
    return [int.from_bytes(stream[i : i + width], "little") for i in range(0, len(stream), width)]


def tree_root(y: bytes) -> bytes:
    leaves = [sha256(b"\0" + y[i : i + (1 << 20)]) for i in range(0, len(y), 1 << 20)]
    return sha256(b"\1" + len(y).to_bytes(8, "big") + b"".join(leaves))


def quantise(values: dict[str, list[float]], segments: Segments, dither_seed: bytes) -> dict[str, list[int]]:
    """Signed integers of binary64 values: clipped to the steps, then rounded with the dither of their place."""
    out: dict[str, list[int]] = {}
    blocks = 0
    for s in segments:
        limit, dither = round(s["clip"] / s["scale"]), dither_words(dither_seed, s, blocks)
        blocks += -(-size(s) // SEGMENT)
        pairs = zip(values[s["name"]], dither, strict=True)
        out[s["name"]] = [rounded(s["ring"], v, s["scale"], limit, d) for v, d in pairs]
    return out


def rounded(ring: int, value: float, scale: float, limit: int, dither: int) -> int:
    """One step more with the probability of the fraction: of 16 bits in Z_2^16 and Z_2^32, of 32 bits in Z_2^64."""
    if ring == 16:
        fixed = max(-limit * 2**16, min(limit * 2**16, value * (2**16 / scale)))
        return (int(fixed) + dither) >> 16
    q = max(-limit, min(limit, value * (1 / scale) if ring == 32 else value / scale))
    if ring == 32:
        return math.floor(q + dither / 2**16)
    return math.floor(q) + (dither < (q - math.floor(q)) * 2**32)


def dither_words(key: bytes, segment: dict[str, Any], block: int) -> list[int]:
    """2 bytes an element, 4 in Z_2^64; the blocks of 2^19 elements are numbered over all tensors, from ``block``."""
    width, count, stream = 4 if segment["ring"] == 64 else 2, size(segment), b""
    for at in range(0, count, SEGMENT):
        stream += keystream(key, 0, block + at // SEGMENT, min(SEGMENT, count - at) * width)
    return [int.from_bytes(stream[i : i + width], "little") for i in range(0, len(stream), width)]


def vector(integers: dict[str, list[int]], segments: Segments) -> list[tuple[int, int]]:
    """(ring, integer) of a whole vector, rings in the order 64, 32, 16."""
    return [(ring, v) for ring in (64, 32, 16) for s in segments if s["ring"] == ring for v in integers[s["name"]]]


def to_bytes(entries: list[tuple[int, int]]) -> bytes:
    return b"".join((v % (1 << ring)).to_bytes(ring // 8, "little") for ring, v in entries)


def add_pads(entries: list[tuple[int, int]], pads: list[tuple[bytes, int]]) -> list[tuple[int, int]]:
    """The vector with sign * PRG(key) added modulo 2^ring; pads: (key, sign)."""
    out: list[tuple[int, int]] = []
    for ring in (64, 32, 16):
        part = [v for width, v in entries if width == ring]
        for key, sign in pads:
            part = [(v + sign * p) % (1 << ring) for v, p in zip(part, pad(key, ring, len(part)), strict=True)]
        out += [(ring, v) for v in part]
    return out


def signed(ring: int, value: int) -> int:
    return (value + (1 << (ring - 1))) % (1 << ring) - (1 << (ring - 1))
