"""Masks: inverse of each other, equal over backends, chunks and threads, seekable by segment, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fedprofile.secagg.keystream import BACKENDS, CHUNK, SEGMENT, SLACK, ZEROS, nonce, open_stream
from fedprofile.secagg.masking import add_masks, add_vectors
from fedprofile.types import RING_DTYPE

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def _plain(ring, size, key=KEY):
    """The specification read aloud: one fresh nonce a segment, little-endian elements."""
    out = b""
    for segment in range(-(-size // SEGMENT)):
        stream, need = open_stream(key, nonce(ring, segment), "ctr"), SEGMENT * ring // 8
        while need:
            target = bytearray(CHUNK + SLACK)
            stream.update_into(ZEROS[:CHUNK], target)
            out, need = out + bytes(target[:CHUNK]), need - CHUNK
    return np.frombuffer(out, f"<u{ring // 8}", size)


@pytest.mark.parametrize("ring", [16, 32, 64])
@pytest.mark.parametrize("size", [1, CHUNK + 1, SEGMENT + 5])
def test_mask_is_the_specified_stream(ring, size):
    acc = {ring: np.zeros(size, RING_DTYPE[ring])}
    add_masks(acc, [(KEY, 1)], "gcm")
    np.testing.assert_array_equal(acc[ring], _plain(ring, size))
    add_masks(acc, [(OTHER, 1), (KEY, -1)], "ctr")
    add_masks(acc, [(OTHER, -1)])
    assert not acc[ring].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_and_either_backend_give_the_same_bytes(backend, threads):
    sizes, pads = {64: 3, 32: SEGMENT + CHUNK + 1, 16: 2 * SEGMENT + 7}, [(KEY, 1), (OTHER, -1)]
    acc = {ring: np.zeros(size, RING_DTYPE[ring]) for ring, size in sizes.items()}
    expected = {ring: _plain(ring, size) - _plain(ring, size, OTHER) for ring, size in sizes.items()}
    add_masks(acc, pads, backend, threads=threads)
    for ring, vector in acc.items():
        np.testing.assert_array_equal(vector, expected[ring])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("offset", [0, 3])
def test_vectors_add_modulo_the_ring_wherever_they_lie(threads, offset):
    rng = np.random.default_rng(0)
    sizes = {32: 5, 16: SEGMENT + CHUNK + 1}
    whole = {r: [rng.integers(0, 1 << r, n).astype(RING_DTYPE[r]) for _ in range(4)] for r, n in sizes.items()}

    def view(array):
        return np.frombuffer(bytes(offset) + array.tobytes(), array.dtype, array.size, offset)

    acc = {r: parts[0].copy() for r, parts in whole.items()}
    add_vectors(acc, [{r: view(parts[i]) for r, parts in whole.items()} for i in (1, 2, 3)], threads=threads)
    for ring, parts in whole.items():
        np.testing.assert_array_equal(acc[ring], parts[0] + parts[1] + parts[2] + parts[3])


def test_memory_does_not_grow_with_the_vector():
    acc = {32: np.zeros(1 << 21, np.uint32)}
    add_masks(acc, [(KEY, 1)])
    tracemalloc.start()
    add_masks(acc, [(bytes([i] * 32), 1) for i in range(9)])
    add_vectors(acc, [acc] * 9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < acc[32].nbytes // 8
