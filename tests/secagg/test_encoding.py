"""Fixed point: refusals before anything is quantised, unbiased rounding, exact round trips, no overflow."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import LocalProtocolError, RemoteProtocolError
from fedprofile.secagg.encoding import check_layout, dequantise, pack, quantise, unpack, vectors
from fedprofile.types import Layout, Segment

PAIR = Layout((Segment("w", (2, 2), 16, 1.0, 2**-8), Segment("n", (3,), 64, 2.0**40, 1.0)))


def _values(**changes):
    return {"w": np.zeros((2, 2)), "n": np.zeros(3)} | changes


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (_values(w=np.array([[0, np.nan], [0, 0]])), "'w'"),
        (_values(n=np.array([0, np.inf, 0])), "'n'"),
        (_values(w=np.zeros(4)), "'w'"),
        (_values(w=np.zeros((2, 2), complex)), "'w'"),
        (_values(n=np.array(["1", "2", "3"])), "'n'"),
        (_values(extra=np.zeros(1)), "extra"),
        ({"w": np.zeros((2, 2))}, "'n'"),
    ],
)
def test_refused_before_a_byte_is_drawn(values, named):
    def never(_n):
        raise AssertionError("drew randomness")

    with pytest.raises(LocalProtocolError, match=f"bad_values.*{named}"):
        quantise(values, PAIR, never)


def test_short_random_source_is_refused():
    with pytest.raises(LocalProtocolError, match="bad_random"):
        quantise(_values(), PAIR, lambda n: b"\0" * (n - 1))


def test_clipping_is_counted_and_two_s_complement():
    q = quantise(
        _values(w=np.array([[1.5, -1.5], [1.0, -1.0]]), n=np.array([2.0**41, -5, 2**39 + 1])), PAIR, os.urandom
    )
    assert q.saturated == 3
    np.testing.assert_array_equal(q.values["w"], np.array([[256, 65280], [256, 65280]], np.uint16))
    np.testing.assert_array_equal(dequantise(q.values, PAIR)["n"], [2.0**40, -5, 2**39 + 1])


def test_rounding_is_unbiased_between_neighbours_only():
    layout = Layout((Segment("w", (200_000,), 16, 1.0, 2**-8),))
    value = (37 + 0.3) * 2**-8
    q = quantise({"w": np.full(200_000, value)}, layout, os.urandom).values["w"]
    assert set(np.unique(q)) == {37, 38}
    assert abs(q.mean() - 37.3) < 6 * np.sqrt(0.21 / q.size)
    negative = quantise({"w": np.full(200_000, -value)}, layout, os.urandom).values["w"].view(np.int16)
    assert set(np.unique(negative)) == {-38, -37}
    assert abs(negative.mean() + 37.3) < 6 * np.sqrt(0.21 / q.size)


def test_dither_comes_from_the_source_alone(byte_stream):
    values = _values(w=np.full((2, 2), 0.123))
    a, b, c = (quantise(values, PAIR, byte_stream(s)).values["w"] for s in ("x", "x", "y"))
    np.testing.assert_array_equal(a, b)
    wide = Layout((Segment("w", (64,), 16, 1.0, 2**-8),))
    a, c = (quantise({"w": np.full(64, 0.123)}, wide, byte_stream(s)).values["w"] for s in ("x", "y"))
    assert (a != c).any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**52), 2**52), min_size=1, max_size=20))
def test_integers_are_exact_to_the_53rd_bit(numbers):
    layout = Layout((Segment("n", (len(numbers),), 64, 2.0**53, 1.0),))
    for dtype in (np.int64, np.float64):
        q = quantise({"n": np.array(numbers, dtype)}, layout, os.urandom)
        assert q.saturated == 0
        assert dequantise(q.values, layout)["n"].astype(int).tolist() == numbers


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.sampled_from((16, 32)), st.floats(1e-6, 1e6))
def test_fitted_layouts_never_overflow(members, ring, clip):
    segment = Segment.fitted("w", (3,), ring, clip, members)
    check_layout(Layout((segment,)), members)
    q = quantise({"w": np.array([clip, -clip, 9 * clip])}, Layout((segment,)), os.urandom).values["w"]
    total = (q.astype(np.int64) * members).astype(q.dtype)
    exact = q.view(f"i{ring // 8}").astype(np.int64) * members
    np.testing.assert_array_equal(total.view(f"i{ring // 8}"), exact)


@pytest.mark.parametrize(
    ("segment", "members", "code"),
    [
        (Segment("w", (3,), 16, 1.0, 2**-13), 4, "layout_overflow"),
        (Segment("w", (3,), 64, 2.0**52, 1.0), 3, "layout_overflow"),
        (Segment("w", (0,), 16, 1.0, 0.5), 2, "bad_layout"),
        (Segment("w", (3,), 16, float("nan"), 0.5), 2, "bad_layout"),
        (Segment("w", (3,), 16, 1e300, 1e-300), 2, "bad_layout"),
        (Segment("w", (3,), 16, 1.0, -0.5), 2, "bad_layout"),
        (Segment("w", (3,), 8, 1.0, 0.5), 2, "bad_layout"),
        (Segment("w", (1 << 30, 2), 16, 1.0, 0.5), 2, "bad_layout"),
    ],
)
def test_layouts_refused(segment, members, code):
    with pytest.raises(RemoteProtocolError) as refused:
        check_layout(Layout((segment,)), members, RemoteProtocolError)
    assert refused.value.code == code


def test_pack_and_unpack_are_inverse(federate, layout):
    q = federate(3).integers(layout)["bank"]
    packed = pack(q, layout)
    assert len(packed) == layout.nbytes
    back = unpack(vectors(packed, layout), layout)
    for name, array in q.values.items():
        np.testing.assert_array_equal(back[name], array)
    with pytest.raises(LocalProtocolError, match="bad_values"):
        pack(q, PAIR)
