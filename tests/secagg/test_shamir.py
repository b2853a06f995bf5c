"""Secret sharing: known answers, any threshold of shares, and what fewer of them say."""

from __future__ import annotations

import hashlib
import os
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import LocalProtocolError, RemoteProtocolError
from fedprofile.secagg.shamir import PRIME, SIZE, combine, share


def number(value: int) -> bytes:
    return value.to_bytes(SIZE, "big")


SEVEN = (7).to_bytes(32, "big")
CONSTANT = int.from_bytes(SEVEN + hashlib.sha256(SEVEN).digest(), "big")


def test_known_answer():
    """By hand: f(x) = 2x^2 + 3x + constant, drawn as (2, 3)."""
    shares = share(SEVEN, 3, (1, 2, 5), lambda n: number(2) + number(3))
    assert shares == {1: number(CONSTANT + 5), 2: number(CONSTANT + 14), 5: number(CONSTANT + 65)}
    assert combine(shares, 3) == SEVEN


def test_coefficients_wrap_at_the_prime():
    """f(x) = (p - c) x + c, so f(1) = 0 and f(2) = p - c; the unused bits of a draw are dropped."""
    high = (PRIME - CONSTANT + (1 << 521)).to_bytes(SIZE, "big")
    shares = share(SEVEN, 2, (1, 2), lambda n: high)
    assert shares == {1: number(0), 2: number(PRIME - CONSTANT)}


@settings(deadline=None)
@given(n=st.integers(1, 9), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(n, data):
    threshold = data.draw(st.integers(1, n))
    points = tuple(data.draw(st.lists(st.integers(1, 1024), min_size=n, max_size=n, unique=True)))
    secret = data.draw(st.binary(min_size=32, max_size=32))
    shares = share(secret, threshold, points, os.urandom)
    for chosen in combinations(points, threshold):
        assert combine({x: shares[x] for x in chosen}, threshold) == secret


def test_fewer_shares_fit_every_secret():
    """Two shares of a threshold of three: for any other secret there is a third share that leads to it."""
    shares = share(b"s" * 32, 3, (1, 2, 3), os.urandom)
    for other in (bytes(32), b"\xff" * 32, os.urandom(32)):
        # f(3) of the parabola through (0, f0), (1, f1), (2, f2) is f0 - 3 f1 + 3 f2
        f0 = int.from_bytes(other + hashlib.sha256(other).digest(), "big")
        f1, f2 = (int.from_bytes(shares[x], "big") for x in (1, 2))
        third = (f0 - 3 * f1 + 3 * f2) % PRIME
        assert combine({1: shares[1], 2: shares[2], 3: number(third)}, 3) == other


@pytest.mark.parametrize("byte", range(0, SIZE, 5))
def test_a_false_share_shows(byte):
    """Every size of change: without the hash, a small one would move the secret by a little and pass."""
    shares = share(b"s" * 32, 3, (1, 2, 3, 4), os.urandom)
    bad = bytearray(shares[2])
    bad[byte] ^= 1
    with pytest.raises(RemoteProtocolError, match="bad_share"):
        combine(shares | {2: bytes(bad)}, 3)


def test_refusals():
    shares = share(b"s" * 32, 2, (1, 2, 3), os.urandom)
    with pytest.raises(RemoteProtocolError, match="missing_member"):
        combine({1: shares[1]}, 2)
    for bad in (shares[2][:-1], shares[2] + b"\0", number(PRIME), b""):
        with pytest.raises(RemoteProtocolError, match="bad_share"):
            combine({1: shares[1], 2: bad}, 2)
    for threshold, points in ((0, (1, 2)), (3, (1, 2)), (2, (1, 1)), (2, (0, 1))):
        with pytest.raises(LocalProtocolError, match="threshold_refused"):
            share(b"s" * 32, threshold, points, os.urandom)
    with pytest.raises(LocalProtocolError, match="wrong_length"):
        share(b"s", 2, (1, 2), os.urandom)
