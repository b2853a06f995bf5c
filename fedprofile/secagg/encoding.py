"""Values to integers of a ring and back: fixed point, clipped, stochastically rounded, never overflowing.

The masked vector of a layout is its segments concatenated per ring, the rings in the order 64, 32, 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import LocalProtocolError, ProtocolError
from fedprofile.secagg.codes import CODES, local
from fedprofile.secagg.keystream import CHUNK, SLACK, ZEROS, nonce, open_stream
from fedprofile.secagg.wire import MAX_VECTOR, Buffer
from fedprofile.types import RING_DTYPE, Layout, Quantised, Segment

Rand = Callable[[int], bytes]
Array = npt.NDArray[Any]
RING_ORDER = (64, 32, 16)
EXACT = 1 << 53


def draw(rand: Rand, n: int) -> bytes:
    """``n`` bytes of a source; raises LocalProtocolError("bad_random") for another length."""
    data = rand(n)
    if len(data) != n:
        raise local("bad_random")
    return data


def steps(segment: Segment) -> int:
    """Integer steps from 0 to the clip."""
    return round(segment.clip / segment.scale)


def check_layout(layout: Layout, members: int, error: type[ProtocolError] = LocalProtocolError) -> None:
    """Proves that the sum of ``members`` vectors cannot leave its ring, nor the integers that a float64 holds.

    members * round(clip/scale) < 2^(ring-1) and <= 2^53. Raises ``error`` with "bad_layout" or
    "layout_overflow", naming the segment.
    """
    names = [s.name for s in layout.segments]
    if not names or len(set(names)) != len(names) or layout.nbytes >= MAX_VECTOR or members < 1:
        raise error("bad_layout", "empty, too large or with a repeated name", CODES["bad_layout"])
    for s in layout.segments:
        numbers = all(math.isfinite(v) and v > 0 for v in (s.clip, s.scale)) and math.isfinite(s.clip / s.scale)
        if s.ring not in RING_DTYPE or not s.name or s.size < 1 or not numbers or steps(s) < 1:
            raise error("bad_layout", f"segment {s.name!r}", CODES["bad_layout"])
        if members * steps(s) > min((1 << (s.ring - 1)) - 1, EXACT):
            raise error("layout_overflow", f"segment {s.name!r}, {members} members", CODES["layout_overflow"])


def quantise(values: Mapping[str, Array], layout: Layout, rand: Rand) -> Quantised:
    """Integers of each segment: clip to +-clip, divide by scale, round up with the probability of the fraction.

    values: segment name -> array of its shape, real; ``rand`` is asked for 32 bytes, whatever the
    values, which an AES keystream expands to 32 bits an element (bias below 2^-32 steps).
    Everything is checked before anything is quantised: LocalProtocolError("bad_values") names the tensor.
    """
    if extra := sorted(set(values) - {s.name for s in layout.segments}):
        raise local("bad_values", f"tensors not in the layout: {', '.join(extra)}")
    checked = [(s, _checked(values, s)) for s in layout.segments]
    check_layout(layout, 1)
    dither = _Dither(draw(rand, 32))
    integers, saturated = {}, 0
    for segment, array in checked:
        integers[segment.name], over = _round(array, segment, dither)
        saturated += over
    return Quantised(integers, saturated)


class _Dither:
    """Uniform numbers in [0, 1) on a grid of 2^-32, from one 32-byte draw."""

    def __init__(self, seed: bytes) -> None:
        self._stream = open_stream(seed, nonce(0, 0))
        self._bytes = bytearray(CHUNK * 4 + SLACK)

    def next(self, n: int) -> npt.NDArray[np.float64]:
        self._stream.update_into(ZEROS[: n * 4], self._bytes)
        return np.frombuffer(self._bytes, "<u4", n) * 2.0**-32


def _checked(values: Mapping[str, Array], s: Segment) -> Array:
    if s.name not in values:
        raise local("bad_values", f"tensor {s.name!r} is missing")
    array = np.asarray(values[s.name])
    if array.dtype.kind not in "biuf":
        raise local("bad_values", f"tensor {s.name!r} is not real")
    if array.shape != s.shape:
        raise local("bad_values", f"tensor {s.name!r} has another shape than the layout")
    if not np.isfinite(array).all():
        raise local("bad_values", f"tensor {s.name!r} holds NaN or infinity")
    return array


def _round(array: Array, s: Segment, dither: _Dither) -> tuple[Array, int]:
    flat, limit = array.reshape(-1), steps(s)
    out: Array = np.empty(flat.size, RING_DTYPE[s.ring])
    saturated = 0
    for at in range(0, flat.size, CHUNK):
        q = flat[at : at + CHUNK].astype(np.float64) / s.scale
        # floor and fraction apart: near 2^53 the sum q + u would itself be rounded
        whole = np.floor(q)
        whole += dither.next(q.size) < q - whole
        saturated += int(np.count_nonzero(np.abs(q) > limit))
        out[at : at + CHUNK] = np.clip(whole, -limit, limit).astype(np.int64).astype(out.dtype)
    return out.reshape(s.shape), saturated


def vectors(buffer: Buffer, layout: Layout) -> dict[int, Array]:
    """Views of a masked vector's bytes: ring -> (d_ring,) little-endian unsigned."""
    views: dict[int, Array] = {}
    at = 0
    for ring in RING_ORDER:
        size = sum(s.size for s in layout.segments if s.ring == ring)
        if size:
            views[ring] = np.frombuffer(buffer, np.dtype(RING_DTYPE[ring]).newbyteorder("<"), size, at)
        at += size * ring // 8
    return views


def pack(quantised: Quantised, layout: Layout) -> bytearray:
    """The vector of ``layout.nbytes`` bytes. Raises LocalProtocolError("bad_values") for integers of another layout."""
    if set(quantised.values) != {s.name for s in layout.segments}:
        raise local("bad_values", "integers of another layout")
    buffer = bytearray(layout.nbytes)
    views, ends = vectors(buffer, layout), dict.fromkeys(RING_ORDER, 0)
    for s in layout.segments:
        array = quantised.values[s.name]
        if array.shape != s.shape or array.dtype != RING_DTYPE[s.ring]:
            raise local("bad_values", f"tensor {s.name!r} has another shape or ring than the layout")
        views[s.ring][ends[s.ring] : ends[s.ring] + s.size] = array.reshape(-1)
        ends[s.ring] += s.size
    return buffer


def unpack(views: Mapping[int, Array], layout: Layout) -> dict[str, Array]:
    """Segment name -> unsigned array of its shape, in the ring's native type."""
    values, ends = {}, dict.fromkeys(RING_ORDER, 0)
    for s in layout.segments:
        part = views[s.ring][ends[s.ring] : ends[s.ring] + s.size]
        values[s.name] = part.astype(RING_DTYPE[s.ring]).reshape(s.shape)
        ends[s.ring] += s.size
    return values


def dequantise(sum_values: Mapping[str, Array], layout: Layout) -> dict[str, npt.NDArray[np.float64]]:
    """Two's complement sums times scale: segment name -> float64 of its shape, exact in steps by check_layout."""
    return {
        s.name: sum_values[s.name].view(np.dtype(f"i{s.ring // 8}")).astype(np.float64) * s.scale
        for s in layout.segments
    }
