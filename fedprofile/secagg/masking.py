"""Adding pads and vectors in place, chunk by chunk in cache: O(chunk) memory for any number of peers.

Threads take whole segments of 2^19 elements, which have their own nonces, so the bytes are the same for any number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.secagg.keystream import SEGMENT, SLACK, ZEROS, chunk_length, nonce, open_stream
from fedprofile.secagg.threads import spread

Vectors = Mapping[int, npt.NDArray[Any]]
Pad = tuple[bytes, int]


def add_masks(acc: Vectors, pads: Sequence[Pad], backend: str = "", *, threads: int = 1) -> None:
    """``acc[ring] += sign * PRG(key)`` modulo 2^ring in place for every (key, sign).

    acc: ring -> (d_ring,) little-endian unsigned. Every peer's pad meets a chunk of ``acc`` while it is in cache.
    """

    def work(jobs: Iterator[tuple[int, int]]) -> None:
        target = bytearray(_largest(acc, threads) + SLACK)
        for ring, start in jobs:
            part = acc[ring][start : start + SEGMENT]
            _mask_segment(part, nonce(ring, start // SEGMENT), pads, backend, target)

    spread(work, _segments(acc), threads)


def add_vectors(acc: Vectors, others: Sequence[Vectors], *, threads: int = 1) -> None:
    """``acc[ring] += other[ring]`` modulo 2^ring in place, for every one of ``others``, which may be unaligned views.

    An unaligned chunk is copied first: numpy adds unaligned operands many times slower.
    """

    def work(jobs: Iterator[tuple[int, int]]) -> None:
        target = bytearray(_largest(acc, threads))
        for ring, start in jobs:
            whole = acc[ring]
            step = len(target) // whole.itemsize
            buffer = np.frombuffer(target, whole.dtype, step)
            for at in range(start, min(start + SEGMENT, len(whole)), step):
                part = whole[at : min(at + step, start + SEGMENT)]
                for other in others:
                    addend = other[ring][at : at + len(part)]
                    if not addend.flags.aligned:
                        buffer[: len(part)].view(np.uint8)[:] = addend.view(np.uint8)
                        addend = buffer[: len(part)]
                    np.add(part, addend, out=part)

    spread(work, _segments(acc), threads)


def _segments(acc: Vectors) -> list[tuple[int, int]]:
    return [(ring, start) for ring, vector in acc.items() for start in range(0, len(vector), SEGMENT)]


def _largest(acc: Vectors, threads: int) -> int:
    """Bytes of the largest chunk."""
    return max(min(len(v), chunk_length(v.itemsize, threads)) * v.itemsize for v in acc.values())


def _mask_segment(vector: npt.NDArray[Any], iv: bytes, pads: Sequence[Pad], backend: str, target: bytearray) -> None:
    width = vector.itemsize
    step = (len(target) - SLACK) // width
    pad = np.frombuffer(target, vector.dtype, step)
    streams = [(open_stream(key, iv, backend), np.add if sign > 0 else np.subtract) for key, sign in pads]
    for at in range(0, len(vector), step):
        part = vector[at : at + step]
        for stream, combine in streams:
            stream.update_into(ZEROS[: len(part) * width], target)
            combine(part, pad[: len(part)], out=part)
