"""Stochastic rounding: inside the clip whatever comes, unbiased in every ring, equal on any number of threads."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import LocalProtocolError
from fedprofile.secagg.encoding import check_layout, dequantise, quantise, steps
from fedprofile.secagg.keystream import CHUNK, SEGMENT
from fedprofile.secagg.rounding import extremes
from fedprofile.types import Layout, Segment

DTYPES = (np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_)


def one(size, ring, clip, scale):
    return Layout((Segment("w", (size,), ring, clip, scale),))


def signed(quantised, ring):
    return quantised.values["w"].view(f"i{ring // 8}").astype(object)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    st.sampled_from(DTYPES),
    st.sampled_from((16, 32, 64)),
    st.integers(1, 300),
    st.floats(1e-280, 1e290),
)
def test_no_value_leaves_the_clip_so_no_sum_leaves_the_ring(numbers, dtype, ring, members, clip):
    layout = Layout((Segment.fitted("w", (len(numbers),), ring, clip, members),))
    check_layout(layout, members)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(numbers).clip(-1e300, 1e300).astype(dtype)
    if not np.isfinite(values).all():
        values = np.zeros(len(numbers), dtype)
    for chosen in (values, np.full_like(values, values.max()), (values != 0).astype(dtype)):
        integers = signed(quantise({"w": chosen}, layout, os.urandom), ring)
        limit = steps(layout.segments[0])
        assert all(-limit <= i <= limit for i in integers)
        assert all(abs(members * i) < 2 ** (ring - 1) for i in integers)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((16, 32, 64)), st.sampled_from((np.float32, np.float64)))
def test_an_integer_is_a_neighbour_of_the_value(seed, ring, dtype):
    segment = Segment.fitted("w", (200,), ring, 3.0, 10)
    layout = Layout((segment,))
    values = np.random.default_rng(seed).uniform(-3, 3, 200).astype(dtype)
    opened = dequantise(quantise({"w": values}, layout, os.urandom).values, layout)["w"]
    unit = 2.0**-23 * np.abs(values) if dtype == np.float32 and ring == 16 else 2.0**-51 * np.abs(values)
    assert (np.abs(opened - values) < segment.scale * (1 + 2.0**-16) + unit).all()


@pytest.mark.parametrize("ring", [16, 32, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fraction", [2.0**-10, 0.3, 1 - 2.0**-10])
def test_the_mean_of_the_rounding_is_the_value(ring, dtype, fraction):
    n = 300_000
    for value in (37 + fraction, -37 - fraction):
        values = np.full(n, value * 2**-8, dtype)
        integers = quantise({"w": values}, one(n, ring, 1.0, 2**-8), os.urandom).values["w"].view(f"i{ring // 8}")
        assert set(np.unique(integers)) == {np.floor(value), np.ceil(value)}
        assert abs(integers.mean() - value) < 6 * np.sqrt(fraction * (1 - fraction) / n) + 2.0**-16


@pytest.mark.parametrize("ring", [16, 32, 64])
def test_whole_steps_stay_whole_and_the_clip_itself_is_no_saturation(ring):
    whole = np.arange(-1000, 1001) * 2.0**-10
    for dtype in (np.float32, np.float64):
        q = quantise({"w": whole.astype(dtype)}, one(2001, ring, 1000 / 1024, 2**-10), os.urandom)
        assert signed(q, ring).tolist() == list(range(-1000, 1001))
        assert q.saturated == 0
    layout = Layout((Segment.fitted("w", (4,), ring, 0.1, 7),))
    for dtype in (np.float16, np.float32, np.float64):
        edge = np.array([0.1, -0.1, 0.2, -0.2], dtype)
        assert quantise({"w": edge}, layout, os.urandom).saturated == 2


def test_any_number_of_threads_gives_the_same_integers(byte_stream):
    sizes = {"a": (16, SEGMENT + CHUNK + 3), "b": (32, SEGMENT + 1), "c": (64, 3 * CHUNK + 5), "d": (16, 1)}
    layout = Layout(tuple(Segment(n, (size,), ring, 1.0, 2**-9) for n, (ring, size) in sizes.items()))
    rng = np.random.default_rng(0)
    values = {s.name: rng.normal(0, 0.6, s.shape).astype(np.float32) for s in layout.segments}
    first, *others = (quantise(values, layout, byte_stream("x"), threads=t) for t in (1, 2, 3))
    assert first.saturated == sum(int((np.abs(v) > 1).sum()) for v in values.values())
    for other in others:
        assert other.saturated == first.saturated
        assert all((other.values[n] == first.values[n]).all() for n in sizes)
        for t in (1, 2):
            opened = dequantise(other.values, layout, threads=t)
            assert all((opened[s.name] == dequantise(first.values, layout)[s.name]).all() for s in layout.segments)


def test_no_two_blocks_share_their_dither(byte_stream):
    layout = Layout(tuple(Segment(n, (SEGMENT + 64,), 16, 1.0, 2**-8) for n in "ab"))
    half = np.full(SEGMENT + 64, 0.5 * 2**-8, np.float32)
    q = quantise({"a": half, "b": half}, layout, byte_stream("x")).values
    starts = [q["a"][:64], q["a"][SEGMENT:], q["b"][:64], q["b"][SEGMENT:]]
    assert len({s.tobytes() for s in starts}) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, 3 * CHUNK - 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_one_bad_value_anywhere_is_found_before_a_byte_is_drawn(bad, at, threads):
    def never(_n):
        raise AssertionError("drew randomness")

    values = np.zeros(3 * CHUNK, np.float32)
    values[at] = bad
    with pytest.raises(LocalProtocolError, match=r"bad_values.*'w'"):
        quantise({"w": values}, one(3 * CHUNK, 16, 1.0, 2**-8), never, threads=threads)


def test_extremes_of_each_array():
    arrays = [np.array([3, -2], np.int8), np.linspace(-1, 5, 2 * CHUNK + 1), np.array([True])]
    assert extremes(arrays, 2) == [(-2, 3), (-1, 5), (1, 1)]
