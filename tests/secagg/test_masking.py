"""Masks: inverse of each other, equal over backends and chunks, seekable by segment, fast."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from fedprofile.secagg.keystream import CHUNK, SEGMENT, SLACK, ZEROS, nonce, open_stream
from fedprofile.secagg.masking import add_mask, add_masks
from fedprofile.types import RING_DTYPE

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def _plain(ring, size):
    """The specification read aloud: one fresh nonce a segment, little-endian elements."""
    out = b""
    for segment in range(-(-size // SEGMENT)):
        stream, need = open_stream(KEY, nonce(ring, segment), "ctr"), SEGMENT * ring // 8
        while need:
            target = bytearray(CHUNK + SLACK)
            stream.update_into(ZEROS[:CHUNK], target)
            out, need = out + bytes(target[:CHUNK]), need - CHUNK
    return np.frombuffer(out, f"<u{ring // 8}", size)


@pytest.mark.parametrize("ring", [16, 32, 64])
@pytest.mark.parametrize("size", [1, CHUNK + 1, SEGMENT + 5])
def test_mask_is_the_specified_stream(ring, size):
    acc = {ring: np.zeros(size, RING_DTYPE[ring])}
    add_mask(acc, KEY, 1, "gcm")
    np.testing.assert_array_equal(acc[ring], _plain(ring, size))
    add_masks(acc, [(OTHER, 1), (KEY, -1)], "ctr")
    add_mask(acc, OTHER, -1)
    assert not acc[ring].any()


def test_fifty_thousand_u16_with_nine_peers_is_fast():
    acc = {16: np.zeros(50_000, np.uint16)}
    pads = [(bytes([i] * 32), 1 if i % 2 else -1) for i in range(9)]
    add_masks(acc, pads)

    def seconds():
        start = time.perf_counter()
        add_masks(acc, pads)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(20)) < 2e-3


def test_memory_does_not_grow_with_the_vector():
    acc = {32: np.zeros(1 << 21, np.uint32)}
    add_mask(acc, KEY, 1)
    tracemalloc.start()
    add_masks(acc, [(bytes([i] * 32), 1) for i in range(9)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < acc[32].nbytes // 8
