"""Shamir's secret sharing over GF(2^521 - 1): any ``threshold`` shares give the secret, fewer say nothing of it.

Shamir, How to share a secret, CACM 1979. What is shared is the secret and its SHA-256, 64 bytes: whoever changes
a share moves the result by an amount of its choice, but not to a value that carries its own hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from fedprofile.secagg.codes import local, remote
from fedprofile.secagg.encoding import Rand, draw
from fedprofile.secagg.wire import Buffer

PRIME = (1 << 521) - 1
SIZE = 66
SECRET = 32


def share(secret: bytes, threshold: int, points: tuple[int, ...], rand: Rand) -> dict[int, bytes]:
    """Point -> share (66 bytes) on a polynomial of degree ``threshold`` - 1; its constant is the secret and its hash.

    secret: 32 bytes. points: distinct, not zero. ``rand`` is asked once for ``threshold`` - 1 coefficients
    of 66 bytes (taken modulo 2^521, a bias of 2^-521).
    """
    if not 1 <= threshold <= len(points) or len(set(points)) != len(points) or min(points) < 1:
        raise local("threshold_refused", f"{threshold} of {len(points)} shares")
    if len(secret) != SECRET:
        raise local("wrong_length", "a shared secret has 32 bytes")
    drawn = draw(rand, SIZE * (threshold - 1)) if threshold > 1 else b""
    coefficients = [_integer(drawn[at : at + SIZE]) & PRIME for at in range(0, len(drawn), SIZE)]
    coefficients.append(_integer(_hashed(secret)))
    return {x: _evaluate(coefficients, x).to_bytes(SIZE, "big") for x in points}


def combine(shares: Mapping[int, Buffer], threshold: int) -> bytes:
    """The secret from ``threshold`` of the shares, those of the least points.

    Raises RemoteProtocolError: missing_member for too few shares, bad_share where they do not fit together.
    """
    if len(shares) < threshold:
        raise remote("missing_member", f"{len(shares)} shares of {threshold}")
    points = tuple(sorted(shares)[:threshold])
    values = [_integer(shares[x]) for x in points]
    if any(v >= PRIME or len(shares[x]) != SIZE for x, v in zip(points, values, strict=True)):
        raise remote("bad_share")
    constant = sum(w * v for w, v in zip(_weights(points), values, strict=True)) % PRIME
    opened = constant.to_bytes(SIZE, "big")[-2 * SECRET :]
    if constant >> (16 * SECRET) or opened != _hashed(opened[:SECRET]):
        raise remote("bad_share")
    return opened[:SECRET]


def _hashed(secret: bytes) -> bytes:
    return secret + hashlib.sha256(secret).digest()


@lru_cache(maxsize=1024)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's coefficients at zero."""
    weights = []
    for x in points:
        above = below = 1
        for other in points:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def _evaluate(coefficients: list[int], x: int) -> int:
    value = 0
    for c in coefficients:
        value = (value * x + c) % PRIME
    return value


def _integer(data: Buffer) -> int:
    return int.from_bytes(data, "big")
