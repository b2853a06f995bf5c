"""The keystream against published vectors, and both backends against each other."""

from __future__ import annotations

import pytest

from fedprofile.secagg.keystream import BACKENDS, CHUNK, SLACK, ZEROS, ctr_stream, fastest, nonce

NIST_KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
NIST_COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
# SP 800-38A F.5.5, the four output blocks of CTR-AES256.Encrypt
NIST_STREAM = bytes.fromhex(
    "0bdf7df1591716335e9a8b15c860c502"
    "5a6e699d536119065433863c8f657b94"
    "1bc12c9c01610d5d0d8bd6a3378eca62"
    "2956e1c8693536b1bee99c73a31576b6"
)


def _take(stream, *sizes):
    out = b""
    for n in sizes:
        target = bytearray(n + SLACK)
        stream.update_into(ZEROS[:n], target)
        out += bytes(target[:n])
    return out


def test_ctr_known_answer():
    assert _take(ctr_stream(NIST_KEY, NIST_COUNTER), 64) == NIST_STREAM
    assert _take(ctr_stream(NIST_KEY, NIST_COUNTER), 1, 15, 17, 31) == NIST_STREAM


@pytest.mark.parametrize("backend", BACKENDS)
def test_gcm_known_answer(backend):
    """McGrew and Viega, test case 14: zero key, IV and plaintext."""
    assert _take(BACKENDS[backend](bytes(32), bytes(12)), 16).hex() == "cea7403d4d606b6e074ec5d3baf39d18"


@pytest.mark.parametrize("seed", range(8))
def test_backends_are_byte_equal(seed):
    key, iv = bytes([seed] * 32), nonce((16, 32, 64)[seed % 3], seed << 40)
    sizes = (1, 7 * seed + 1, 4096 + seed, CHUNK * 8, 3)
    assert _take(BACKENDS["gcm"](key, iv), *sizes) == _take(BACKENDS["ctr"](key, iv), *sizes)


def test_nonces_differ_by_ring_and_segment():
    assert nonce(16, 1).hex() == "000000100000000000000001"
    assert len({nonce(r, s) for r in (0, 16, 32, 64) for s in range(9)}) == 36
    assert fastest() in BACKENDS
