"""Secret sharing: known answers, any threshold of shares, and what fewer of them say."""

from __future__ import annotations

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


def test_known_answer():
    """By hand: f(x) = 2x^2 + 3x + 7 through (0, 7), (1, 12) and (2, 21)."""
    shares = share(SEVEN, {1: number(12), 2: number(21)}, (3, 5))
    assert shares == {3: number(34), 5: number(72)}
    assert combine({1: number(12), **shares}, 3) == SEVEN


def test_values_wrap_at_the_prime():
    """f(x) = 7 - 7x, so f(1) = 0 and f(2) = p - 7; a share that is given may be short."""
    assert share(SEVEN, {1: bytes(32)}, (2, 3)) == {2: number(PRIME - 7), 3: number(PRIME - 14)}


def test_the_prime_is_one():
    """Fermat, to several bases."""
    assert all(pow(a, PRIME - 1, PRIME) == 1 for a in (2, 3, 5, 7, 11, 13))
    assert 1 << 256 < PRIME < 1 << 8 * SIZE


@settings(deadline=None)
@given(n=st.integers(1, 9), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(n, data):
    threshold = data.draw(st.integers(1, n))
    points = tuple(data.draw(st.lists(st.integers(1, 1024), min_size=n, max_size=n, unique=True)))
    secret = data.draw(st.binary(min_size=32, max_size=32))
    given_ = {x: b"\0" + os.urandom(32) for x in points[: threshold - 1]}
    shares = given_ | share(secret, given_, points[threshold - 1 :])
    for chosen in combinations(points, threshold):
        assert combine({x: shares[x] for x in chosen}, threshold) == secret


def test_fewer_shares_fit_every_secret():
    """Two shares of a threshold of three: for any other secret there is a third share that leads to it."""
    given_ = {1: b"\0" + os.urandom(32), 2: b"\0" + os.urandom(32)}
    for other in (bytes(32), b"\xff" * 32, os.urandom(32)):
        # f(3) of the parabola through (0, f0), (1, f1), (2, f2) is f0 - 3 f1 + 3 f2
        f0, f1, f2 = (int.from_bytes(v, "big") for v in (other, *given_.values()))
        third = number((f0 - 3 * f1 + 3 * f2) % PRIME)
        assert combine(given_ | {3: third}, 3) == other
        assert share(other, given_, (3,)) == {3: third}


def test_refusals():
    first = {1: number(5)}
    shares = first | share(b"s" * 32, first, (2, 3))
    with pytest.raises(RemoteProtocolError, match="missing_member"):
        combine({1: shares[1]}, 2)
    for bad in (shares[2][:-1], shares[2] + b"\0", number(PRIME), b""):
        with pytest.raises(RemoteProtocolError, match="bad_share"):
            combine({1: shares[1], 2: bad}, 2)
    # 2^256 is below the prime, and no 32 bytes
    with pytest.raises(RemoteProtocolError, match="bad_share"):
        combine({1: number(1 << 256)}, 1)
    for points in ((1,), (2, 2), (0,), (-1,)):
        with pytest.raises(LocalProtocolError, match="threshold_refused"):
            share(b"s" * 32, first, points)
    with pytest.raises(LocalProtocolError, match="wrong_length"):
        share(b"s", first, (2,))
