"""Points of P-256 by their x-coordinates, and what alignment does with them: hash to the curve, multiply.

``exchange`` gives x(kP), which does not depend on the sign of P, so 32 bytes of x stand for the pair {P, -P}. The
curve has prime order and OpenSSL refuses an x that is on no point: nothing of a customer shows through a mask. (X25519
of a hash is not enough: whether u lies on the curve or on its twist survives the mask, one bit a customer.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import ECDH, SECP256R1, EllipticCurvePublicKey, derive_private_key

from fedprofile.secagg.codes import remote

T = TypeVar("T", bytes, list[bytes])

DST = b"fedprofile-alignment-V01-with-P256_XONLY_SHA-256_TAI"
"""Domain separation tag, closed by its own length as in RFC 9380 section 3.1."""
POINT = 32
SCALAR_BYTES = 48
"""Uniform bytes that make a scalar: 128 bits more than the order, so that the reduction shows no bias."""
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

POOL_FROM = 50_000
"""Customers from which worker processes are started; below, their start (about a second) costs more than they save."""
CHUNK = 4096
_CURVE = SECP256R1()
_DST = DST + bytes([len(DST)])


def scalar(uniform: bytes) -> int:
    """A key in 1..ORDER-1 from SCALAR_BYTES uniform bytes."""
    return 1 + int.from_bytes(uniform, "big") % (ORDER - 1)


def inverse(k: int) -> int:
    """The key that takes ``k`` off again: x(k^-1 (kP)) = x(P)."""
    return pow(k, -1, ORDER)


def masked_hashes(messages: Sequence[bytes], k: int) -> bytes:
    """x(k H(m)) of every message, 32 bytes each.

    H is try-and-increment: the first counter for which SHA-256(DST, m, counter) is the x of a point, two tries on
    average. How many it took can be measured on this machine only; it never crosses.
    """
    return _spread(_hash_chunk, list(messages), k, len(messages), CHUNK)


def mask(points: bytes, k: int) -> bytes:
    """x(kP) of every point (32 bytes each). Raises RemoteProtocolError: wrong_length, off_curve."""
    if len(points) % POINT:
        raise remote("wrong_length", "points have 32 bytes each")
    masked = _spread(_mask_chunk, points, k, len(points) // POINT, CHUNK * POINT)
    if len(masked) != len(points):
        raise remote("off_curve")
    return masked


def _spread(work: Callable[[T, int], bytes], items: T, k: int, count: int, step: int) -> bytes:
    """``work`` over all items: here, or for many of them in one spawned process a core."""
    workers = len(os.sched_getaffinity(0))
    if count < POOL_FROM or workers == 1:
        return work(items, k)
    chunks = [items[at : at + step] for at in range(0, len(items), step)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return b"".join(pool.map(work, chunks, repeat(k)))


def _hash_chunk(messages: list[bytes], k: int) -> bytes:
    key = derive_private_key(k, _CURVE)
    return b"".join(key.exchange(ECDH(), _point_of(m)) for m in messages)


def _mask_chunk(points: bytes, k: int) -> bytes:
    """What is no point is left out: an exception of ours would not survive the way back from a worker."""
    key, out = derive_private_key(k, _CURVE), []
    for at in range(0, len(points), POINT):
        try:
            point = EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\2" + points[at : at + POINT])
        except ValueError:
            continue
        out.append(key.exchange(ECDH(), point))
    return b"".join(out)


def _point_of(message: bytes) -> EllipticCurvePublicKey:
    start = hashlib.sha256(_DST + len(message).to_bytes(8, "big") + message)
    counter = 0
    while True:
        tried = start.copy()
        tried.update(counter.to_bytes(4, "big"))
        try:
            return EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\2" + tried.digest())
        except ValueError:
            counter += 1
