"""Stochastic rounding to the integers of a ring, a cache-sized chunk at a time.

Dither: an AES keystream under one 32-byte seed, nonce = ring 0 || number of the block of 2^19 elements, counted
over all tensors. So the integers depend on (values, layout, seed) alone, never on the number of threads.

Z_2^16: the whole part of q = value * (2^16 / scale), plus 16 dither bits, shifted right by 16. Given q this is
unbiased exactly. q itself is computed in the value's own precision and cut, so the expectation is off by at most 2^-16
steps and, for float32, 2^-23 of the value (one unit in its last place). |q| < 2^31 by the clip: it cannot overflow.
Z_2^32: float64, the floor of q + 16 dither bits: off by less than 2^-16 steps, and whole numbers stay whole.
Z_2^64: float64, floor and fraction apart, 32 dither bits: off by less than 2^-32 steps, exact up to 2^53.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.secagg.keystream import CHUNK, SEGMENT, SLACK, ZEROS, nonce, open_stream
from fedprofile.secagg.threads import spread
from fedprofile.types import Segment

Array = npt.NDArray[Any]
FRACTION = 1 << 16
DITHER_BYTES = {16: 2, 32: 2, 64: 4}
SMALL, LARGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Tensor:
    """One tensor to round: ``values`` (d,) real and finite, ``limit`` whole steps, ``out`` (d,) unsigned.

    ``clips``: whether any value may lie outside the limit; where none does, that work is left out.
    """

    segment: Segment
    values: Array
    out: Array
    limit: int
    clips: bool


@dataclass(frozen=True)
class Block:
    """Up to 2^19 elements of a tensor from ``start``, whose dither has a nonce of its own."""

    tensor: Tensor
    start: int
    number: int


def extremes(arrays: list[Array], threads: int) -> list[tuple[float, float]]:
    """(least, greatest) of each flat array, NaN where it holds one; reads every value once."""
    found: list[list[tuple[float, float]]] = [[] for _ in arrays]
    step = _step(threads)

    def work(jobs: Iterator[tuple[int, int]]) -> None:
        for i, at in jobs:
            part = arrays[i][at : at + step]
            found[i].append((float(part.min()), float(part.max())))

    spread(work, [(i, at) for i, a in enumerate(arrays) for at in range(0, a.size, step)], threads)
    return [(float(np.min(f, axis=0)[0]), float(np.max(f, axis=0)[1])) for f in found]


def round_all(tensors: list[Tensor], seed: bytes, threads: int) -> int:
    """Fills every ``out`` and returns how many values lay outside +-limit."""
    starts = [(t, at) for t in tensors for at in range(0, t.values.size, SEGMENT)]
    blocks = [Block(t, at, number) for number, (t, at) in enumerate(starts)]

    def work(jobs: Iterator[Block]) -> int:
        scratch = _Scratch(min(_step(threads), max(t.values.size for t in tensors)))
        return sum(_round_block(block, seed, scratch) for block in jobs)

    return sum(spread(work, blocks, threads))


def _step(threads: int) -> int:
    """Elements at a time: with other threads four times as many, since each call takes the interpreter lock."""
    return CHUNK if threads == 1 else 4 * CHUNK


class _Scratch:
    """The buffers of one thread, for n elements."""

    def __init__(self, n: int) -> None:
        self.size = n
        self.real, self.other, self.flag = np.empty(n), np.empty(n), np.empty(n, bool)
        self.bytes = bytearray(n * 4 + SLACK)


def _round_block(block: Block, seed: bytes, scratch: _Scratch) -> int:
    stream, tensor, over = open_stream(seed, nonce(0, block.number)), block.tensor, 0
    end = min(block.start + SEGMENT, tensor.values.size)
    kernel, width = KERNELS[tensor.segment.ring], DITHER_BYTES[tensor.segment.ring]
    step = min(scratch.size, len(ZEROS) // width)
    for at in range(block.start, end, step):
        part = slice(at, min(at + step, end))
        n = part.stop - at
        stream.update_into(ZEROS[: n * width], scratch.bytes)
        with np.errstate(over="ignore"):  # what overflows is clipped
            over += _outside(tensor, part, scratch)
            kernel(tensor, part, np.frombuffer(scratch.bytes, f"<u{width}", n), scratch)
    return over


def _outside(tensor: Tensor, part: slice, scratch: _Scratch) -> int:
    """How many values the clip changes by more than a fraction of a step, compared in their own precision."""
    if not tensor.clips:
        return 0
    values, flag = tensor.values[part], scratch.flag[: part.stop - part.start]
    bound = max(tensor.segment.clip, tensor.limit * tensor.segment.scale)
    above = np.count_nonzero(np.greater(values, bound, out=flag))
    return int(above + np.count_nonzero(np.less(values, -bound, out=flag)))


def _fixed(tensor: Tensor, part: slice, dither: Array, scratch: _Scratch) -> None:
    """Z_2^16, with 16 fractional bits in an int32; limit <= 2^15 - 1, so limit * 2^16 + 2^16 - 1 < 2^31.

    Numpy casts within the operations, in pieces that stay in the first-level cache.
    """
    values, factor = tensor.values[part], FRACTION / tensor.segment.scale
    precision = np.float32 if values.dtype == np.float32 and SMALL <= factor <= LARGE else np.float64
    whole = scratch.real.view(np.int32)[: len(dither)]
    if tensor.clips:
        q = np.multiply(values, factor, dtype=precision)
        _clip(q, tensor, FRACTION)
        np.copyto(whole, q, casting="unsafe")
    else:
        np.multiply(values, factor, out=whole, dtype=precision, casting="unsafe")
    np.add(whole, dither, out=whole)
    np.right_shift(whole, 16, out=tensor.out[part], dtype=np.int32, casting="unsafe")


def _floating(tensor: Tensor, part: slice, dither: Array, scratch: _Scratch) -> None:
    """Z_2^32: |q| < 2^31, so the sum of q and 16 bits is exact to 2^-21 steps."""
    q, bits = scratch.real[: len(dither)], scratch.other[: len(dither)]
    np.multiply(tensor.values[part], 1 / tensor.segment.scale, out=q, dtype=np.float64)
    _clip(q, tensor)
    np.multiply(dither, 1 / FRACTION, out=bits, dtype=np.float64)
    np.add(q, bits, out=q)
    np.floor(q, out=tensor.out[part].view(np.int32), casting="unsafe")


def _exact(tensor: Tensor, part: slice, dither: Array, scratch: _Scratch) -> None:
    """Z_2^64: near 2^53 the sum of q and dither would itself be rounded, so floor and fraction stay apart."""
    n = len(dither)
    q, whole, up = scratch.real[:n], scratch.other[:n], scratch.flag[:n]
    np.divide(tensor.values[part], tensor.segment.scale, out=q, dtype=np.float64)
    _clip(q, tensor)
    np.floor(q, out=whole)
    np.subtract(q, whole, out=q)
    np.multiply(q, 2.0**32, out=q)
    np.less(dither, q, out=up)
    np.add(whole, up, out=tensor.out[part].view(np.int64), dtype=np.float64, casting="unsafe")


def _clip(q: Array, tensor: Tensor, units: int = 1) -> None:
    """To +-limit steps of ``units``, in place; nothing to do where the extremes already lie inside."""
    if tensor.clips:
        np.clip(q, -tensor.limit * units, tensor.limit * units, out=q)


KERNELS = {16: _fixed, 32: _floating, 64: _exact}
