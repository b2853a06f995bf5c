"""Values to integers of a ring and back: fixed point, clipped, stochastically rounded, never overflowing.

The masked vector of a layout is its segments concatenated per ring, the rings in the order 64, 32, 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import LocalProtocolError, ProtocolError
from fedprofile.secagg.codes import CODES, local
from fedprofile.secagg.keystream import CHUNK, SEGMENT
from fedprofile.secagg.rounding import Tensor, extremes, round_all
from fedprofile.secagg.threads import spread
from fedprofile.secagg.wire import MAX_VECTOR, Buffer
from fedprofile.types import RING_DTYPE, Layout, Quantised, Segment

Rand = Callable[[int], bytes]
Array = npt.NDArray[Any]
RING_ORDER = (64, 32, 16)
EXACT = 1 << 53
TINY = 2.0**-1000
INSIDE = 1 - 2.0**-20


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
        numbers = all(math.isfinite(v) and v >= TINY for v in (s.clip, s.scale)) and math.isfinite(s.clip / s.scale)
        if s.ring not in RING_DTYPE or not s.name or s.size < 1 or not numbers or steps(s) < 1:
            raise error("bad_layout", f"segment {s.name!r}", CODES["bad_layout"])
        if members * steps(s) > min((1 << (s.ring - 1)) - 1, EXACT):
            raise error("layout_overflow", f"segment {s.name!r}, {members} members", CODES["layout_overflow"])


def quantise(values: Mapping[str, Array], layout: Layout, rand: Rand, *, threads: int = 1) -> Quantised:
    """Integers of each segment: clip to +-clip, divide by scale, round up with the probability of the fraction.

    values: segment name -> array of its shape, real; ``rand`` is asked for 32 bytes, whatever the
    values; ``rounding`` says how they become dither and bounds the bias. Equal (values, layout, rand)
    give equal integers on any number of threads.
    Everything is checked before anything is quantised: LocalProtocolError("bad_values") names the tensor.
    """
    check_layout(layout, 1)
    if extra := sorted(set(values) - {s.name for s in layout.segments}):
        raise local("bad_values", f"tensors not in the layout: {', '.join(extra)}")
    flat = [_checked(values, s) for s in layout.segments]
    tensors = []
    for s, array, ends in zip(layout.segments, flat, extremes(flat, threads), strict=True):
        if not np.isfinite(ends).all():
            raise local("bad_values", f"tensor {s.name!r} holds NaN or infinity")
        clips = max(-ends[0], ends[1]) > INSIDE * steps(s) * s.scale
        tensors.append(Tensor(s, array, np.empty(s.size, RING_DTYPE[s.ring]), steps(s), clips))
    saturated = round_all(tensors, draw(rand, 32), threads)
    return Quantised({t.segment.name: t.out.reshape(t.segment.shape) for t in tensors}, saturated)


def _checked(values: Mapping[str, Array], s: Segment) -> Array:
    if s.name not in values:
        raise local("bad_values", f"tensor {s.name!r} is missing")
    array = np.asarray(values[s.name])
    if array.dtype.kind not in "biuf":
        raise local("bad_values", f"tensor {s.name!r} is not real")
    if array.shape != s.shape:
        raise local("bad_values", f"tensor {s.name!r} has another shape than the layout")
    return array.reshape(-1)


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


def pack(quantised: Quantised, layout: Layout, *, threads: int = 1) -> memoryview:
    """The vector of ``layout.nbytes`` bytes, to be masked in place.

    Raises LocalProtocolError("bad_values") for integers of another layout.
    """
    if set(quantised.values) != {s.name for s in layout.segments}:
        raise local("bad_values", "integers of another layout")
    for s in layout.segments:
        array = quantised.values[s.name]
        if array.shape != s.shape or array.dtype != RING_DTYPE[s.ring]:
            raise local("bad_values", f"tensor {s.name!r} has another shape or ring than the layout")
    buffer = np.empty(layout.nbytes, np.uint8).data  # numpy asks for large pages, which are there sooner
    places = _places(vectors(buffer, layout), layout)
    pieces = [(places[s.name], quantised.values[s.name].reshape(-1), at) for s, at in _blocks(layout)]

    def work(jobs: Iterator[tuple[Array, Array, int]]) -> None:
        for place, array, at in jobs:
            place[at : at + SEGMENT] = array[at : at + SEGMENT]

    spread(work, pieces, threads)
    return buffer


def unpack(views: Mapping[int, Array], layout: Layout) -> dict[str, Array]:
    """Segment name -> unsigned array of its shape, in the ring's native type; a view of its bytes where that may be."""
    places = _places(views, layout)
    return {s.name: places[s.name].astype(RING_DTYPE[s.ring], copy=False).reshape(s.shape) for s in layout.segments}


def dequantise(
    sum_values: Mapping[str, Array], layout: Layout, *, threads: int = 1
) -> dict[str, npt.NDArray[np.float64]]:
    """Two's complement sums times scale: segment name -> float64 of its shape, exact in steps by check_layout."""
    whole = {s.name: sum_values[s.name].reshape(-1).view(np.dtype(f"i{s.ring // 8}")) for s in layout.segments}
    opened = {s.name: np.empty(s.size) for s in layout.segments}

    def work(jobs: Iterator[tuple[Segment, int]]) -> None:
        for s, start in jobs:
            for at in range(start, min(start + SEGMENT, s.size), CHUNK):
                part = opened[s.name][at : at + CHUNK]
                np.copyto(part, whole[s.name][at : at + CHUNK])
                np.multiply(part, s.scale, out=part)

    spread(work, _blocks(layout), threads)
    return {s.name: opened[s.name].reshape(s.shape) for s in layout.segments}


def _places(views: Mapping[int, Array], layout: Layout) -> dict[str, Array]:
    """Segment name -> its flat part of the vector of its ring."""
    places, ends = {}, dict.fromkeys(RING_ORDER, 0)
    for s in layout.segments:
        places[s.name] = views[s.ring][ends[s.ring] : ends[s.ring] + s.size]
        ends[s.ring] += s.size
    return places


def _blocks(layout: Layout) -> list[tuple[Segment, int]]:
    return [(s, at) for s in layout.segments for at in range(0, s.size, SEGMENT)]
