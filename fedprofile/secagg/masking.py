"""Adding pads to a masked vector in place, chunk by chunk in cache: O(chunk) memory for any number of peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.secagg.keystream import CHUNK, SEGMENT, SLACK, ZEROS, nonce, open_stream

Vectors = Mapping[int, npt.NDArray[Any]]
Pad = tuple[bytes, int]


def add_mask(acc: Vectors, key: bytes, sign: int, backend: str = "") -> None:
    """``acc[ring] += sign * PRG(key)`` modulo 2^ring in place; acc: ring -> (d_ring,) little-endian unsigned."""
    add_masks(acc, [(key, sign)], backend)


def add_masks(acc: Vectors, pads: Sequence[Pad], backend: str = "") -> None:
    """The same for many (key, sign): every peer's pad meets a chunk of ``acc`` while it is in cache."""
    for ring, vector in acc.items():
        for segment, start in enumerate(range(0, len(vector), SEGMENT)):
            _mask_segment(vector[start : start + SEGMENT], nonce(ring, segment), pads, backend)


def _mask_segment(vector: npt.NDArray[Any], iv: bytes, pads: Sequence[Pad], backend: str) -> None:
    width = vector.itemsize
    target = bytearray(min(len(vector), CHUNK) * width + SLACK)
    pad = np.frombuffer(target, vector.dtype, min(len(vector), CHUNK))
    streams = [(open_stream(key, iv, backend), np.add if sign > 0 else np.subtract) for key, sign in pads]
    for at in range(0, len(vector), CHUNK):
        part = vector[at : at + CHUNK]
        for stream, combine in streams:
            stream.update_into(ZEROS[: len(part) * width], target)
            combine(part, pad[: len(part)], out=part)
