"""Secret sharing over GF(2^256 + 297): any ``threshold`` shares give the secret, fewer say nothing of it.

Shamir, How to share a secret, CACM 1979. All but one of the values that fix a polynomial may be drawn anywhere: here
``threshold`` - 1 shares come from keys that their holders have already, so only the others are sent (pseudo-random
secret sharing; Cramer, Damgård and Ishai, TCC 2005). A false share is found by a check that the owner gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from fedprofile.secagg.codes import local, remote
from fedprofile.secagg.wire import Buffer

PRIME = (1 << 256) + 297
SIZE = 33
SECRET = 32


def share(secret: bytes, given: Mapping[int, Buffer], points: tuple[int, ...]) -> dict[int, bytes]:
    """Point -> share (33 bytes) on the polynomial of degree ``len(given)`` through the secret at 0 and ``given``.

    secret: 32 bytes. given: point -> share, uniform to whoever does not hold it. Points are distinct and not zero.
    """
    everywhere = (0, *given, *points)
    if len(set(everywhere)) != len(everywhere) or min(everywhere) < 0:
        raise local("threshold_refused", f"{len(given)} given and {len(points)} other shares")
    if len(secret) != SECRET:
        raise local("wrong_length", "a shared secret has 32 bytes")
    values = [_integer(secret), *map(_integer, given.values())]
    return {x: _at(x, (0, *given), values).to_bytes(SIZE, "big") for x in points}


def combine(shares: Mapping[int, Buffer], threshold: int) -> bytes:
    """The 32 bytes from ``threshold`` of the shares, those of the least points; what they should be is not known here.

    Raises RemoteProtocolError: missing_member for too few shares, bad_share for what can be no share or no secret.
    """
    if len(shares) < threshold:
        raise remote("missing_member", f"{len(shares)} shares of {threshold}")
    points = tuple(sorted(shares)[:threshold])
    values = [_integer(shares[x]) for x in points]
    if any(v >= PRIME or len(shares[x]) != SIZE for x, v in zip(points, values, strict=True)):
        raise remote("bad_share")
    secret = _at(0, points, values)
    if secret >> (8 * SECRET):
        raise remote("bad_share")
    return secret.to_bytes(SECRET, "big")


def _at(x: int, points: tuple[int, ...], values: list[int]) -> int:
    """The polynomial through (points, values), evaluated at ``x``."""
    return sum(w * v for w, v in zip(_weights(x, points), values, strict=True)) % PRIME


@lru_cache(maxsize=4096)
def _weights(x: int, points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's coefficients at ``x``."""
    weights = []
    for own in points:
        above = below = 1
        for other in points:
            if other != own:
                above, below = above * (x - other) % PRIME, below * (own - other) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def _integer(data: Buffer) -> int:
    return int.from_bytes(data, "big")
