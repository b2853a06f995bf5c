"""Points of Curve25519 by their u-coordinates, and what alignment does with them: hash to the curve, multiply.

X25519 (RFC 7748) gives u(kP), which does not depend on the sign of P, so 32 bytes of u stand for {P, -P}. Every key is
a multiple of eight: what a mask shows lies in the subgroup of prime order, whatever small part P had. A bare SHA-256 in
place of the hash to the curve would leak: half of all u lie on the twist, and a mask keeps a point on its curve, one
bit a customer. A foreign point on the twist tells its sender nothing, for the twist is as strong (Bernstein 2006).

P-256 does the same in twice the time: OpenSSL spends a whole multiplication on checking each point's order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedprofile.secagg.codes import remote

T = TypeVar("T", bytes, list[bytes])

DST = b"fedprofile-alignment-V02-with-curve25519_XMD:SHA-512_ELL2_NU_"
"""Domain separation tag (RFC 9380 section 3.1)."""
POINT = 32
SCALAR_BYTES = 32
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the subgroup in which masked points lie; the whole curve has eight times as many."""
P, A = 2**255 - 19, 486662

POOL_FROM = 50_000
"""Customers from which worker processes are started; below, their start (about a second) costs more than they save."""
CHUNK = 4096
_BLOCK, _FIELD_BYTES = 128, 48


def scalar(uniform: bytes) -> int:
    """A key from SCALAR_BYTES uniform bytes, as RFC 7748 section 5 reads them: 2^254 + 8 m."""
    return int.from_bytes(uniform, "little") & (2**254 - 8) | 2**254


def inverse(k: int) -> int:
    """The key that takes ``k`` off again: u(inverse(k) (kP)) = u(P) for a masked P."""
    return quotient(1, k)


def quotient(k: int, off: int) -> int:
    """The key that masks by ``k`` and takes ``off`` off, in one multiplication.

    One of k / off and its negative modulo the order, taken to a multiple of eight, has the form that X25519 reads.
    """
    found = 8 * (k * pow(8 * off, -1, ORDER) % ORDER)
    return found if found >= 2**254 else 8 * ORDER - found


def masked_hashes(messages: Sequence[bytes], k: int) -> bytes:
    """u(k H(m)) of every message, 32 bytes each.

    H is encode_to_curve of RFC 9380 (Elligator 2), of which multiplication by ``k`` clears the cofactor. Its time
    depends on the message; it can be measured on this machine only.
    """
    return _spread(_hash_chunk, list(messages), k, len(messages), CHUNK)


def mask(points: bytes, k: int) -> bytes:
    """u(kP) of every point (32 bytes each). Raises RemoteProtocolError: wrong_length, bad_point."""
    if len(points) % POINT:
        raise remote("wrong_length", "points have 32 bytes each")
    masked = _spread(_mask_chunk, points, k, len(points) // POINT, CHUNK * POINT)
    if len(masked) != len(points):
        raise remote("bad_point")
    return masked


def encode_to_field(message: bytes, tag: bytes) -> int:
    """hash_to_field of RFC 9380 for one element: expand_message_xmd with SHA-512, modulo P."""
    tag += bytes([len(tag)])
    first = hashlib.sha512(bytes(_BLOCK) + message + _FIELD_BYTES.to_bytes(2, "big") + b"\0" + tag).digest()
    return int.from_bytes(hashlib.sha512(first + b"\1" + tag).digest()[:_FIELD_BYTES], "big") % P


def map_to_curve(elements: Sequence[int]) -> list[int]:
    """Elligator 2 (RFC 9380 section 6.7.1): the u of each field element, all divisions in one."""
    divisors = [(1 + 2 * r * r) % P for r in elements]  # never 0: -1/2 is no square
    found = []
    for d, over in zip(divisors, _inverses(divisors), strict=True):
        u = -A * over % P
        on_curve = -A * d * (A * A - A * A * d + d * d)  # (u^3 + A u^2 + u) d^4, as much a square as what it is of
        found.append(u if _is_square(on_curve % P) else -A - u + P)
    return [u % P for u in found]


def _inverses(values: Sequence[int]) -> list[int]:
    """Montgomery's trick: one inversion and three products a value."""
    products, total = [], 1
    for value in values:
        products.append(total)
        total = total * value % P
    left, found = pow(total, -1, P), []
    for value, before in zip(reversed(values), reversed(products), strict=True):
        found.append(left * before % P)
        left = left * value % P
    return found[::-1]


def _is_square(a: int) -> bool:
    """Whether a square modulo P has residue ``a``: its Jacobi symbol by Euclid's steps, a fifth of a power's time."""
    n, n8, minus = P, P & 7, False
    while a > 1:
        a8 = a & 7
        if not a8 & 1:
            twos = (a & -a).bit_length() - 1
            a >>= twos
            a8 = a & 7
            if twos & 1 and n8 in (3, 5):  # (2/n)
                minus = not minus
        if a8 & n8 & 2:  # reciprocity
            minus = not minus
        n, a, n8 = a, n % a, a8
        if a + a > n:  # the smaller remainder: (-1/n)
            a = n - a
            if n8 & 2:
                minus = not minus
    return not minus


def _spread(work: Callable[[T, int], bytes], items: T, k: int, count: int, step: int) -> bytes:
    """``work`` over all items: here, or for many of them in one spawned process a core."""
    workers = len(os.sched_getaffinity(0))
    if count < POOL_FROM or workers == 1:
        return work(items, k)
    chunks = [items[at : at + step] for at in range(0, len(items), step)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return b"".join(pool.map(work, chunks, repeat(k)))


def _hash_chunk(messages: list[bytes], k: int) -> bytes:
    hashed = map_to_curve([encode_to_field(m, DST) for m in messages])
    return _mask_chunk(b"".join(u.to_bytes(POINT, "little") for u in hashed), k)


def _mask_chunk(points: bytes, k: int) -> bytes:
    """What is no point is left out: an exception of ours would not survive the way back from a worker."""
    key, out = X25519PrivateKey.from_private_bytes(k.to_bytes(POINT, "little")), []
    for at in range(0, len(points), POINT):
        point = points[at : at + POINT]
        if int.from_bytes(point, "little") >= P:
            continue
        try:
            out.append(key.exchange(X25519PublicKey.from_public_bytes(point)))
        except ValueError:  # of small order: every key masks it alike
            continue
    return b"".join(out)
