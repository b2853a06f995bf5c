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
    """Signed integers: floor(v/scale), one more where the dither lies below the fraction, clipped to the steps."""
    dither = iter(pad_words(dither_seed, sum(map(size, segments))))
    out: dict[str, list[int]] = {}
    for s in segments:
        limit = round(s["clip"] / s["scale"])
        out[s["name"]] = []
        for v in values[s["name"]]:
            q = v / s["scale"]
            whole = math.floor(q)
            up = next(dither) * 2.0**-32 < q - whole
            out[s["name"]].append(max(-limit, min(limit, whole + up)))
    return out


def pad_words(key: bytes, count: int) -> list[int]:
    stream = keystream(key, 0, 0, count * 4)
    return [int.from_bytes(stream[i : i + 4], "little") for i in range(0, count * 4, 4)]


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
