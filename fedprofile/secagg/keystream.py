"""AES-256 keystream as mask source: two backends with identical bytes, the faster one chosen once at start.

Nonce (12 bytes) = ring in bits (4 bytes, big-endian) || number of the segment of 2^19 elements (8 bytes).
In GCM mode (NIST SP 800-38D, 96-bit IV) the data stream starts at counter 2, so it equals CTR mode
(NIST SP 800-38A) from the block nonce || 00000002.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM

from fedprofile.secagg.wire import Buffer

SEGMENT = 1 << 19
CHUNK = 1 << 16
SLACK = 16
ZEROS = memoryview(bytes(CHUNK * 8))


def chunk_length(width: int, threads: int) -> int:
    """Elements of ``width`` bytes that are masked at a time.

    Alone, what stays in a core's own cache; with other threads, more, since each call takes the interpreter lock.
    """
    return CHUNK if threads == 1 else len(ZEROS) // width


class Stream(Protocol):
    """Encrypting zeros yields the keystream, without the interpreter lock; the target needs SLACK bytes to spare."""

    def update_into(self, data: Buffer, buf: Buffer) -> int: ...


Backend = Callable[[bytes, bytes], Stream]


def ctr_stream(key: bytes, counter: bytes) -> Stream:
    """AES-CTR from a full 16-byte first counter block."""
    return Cipher(AES(key), CTR(counter)).encryptor()


def _ctr(key: bytes, nonce: bytes) -> Stream:
    return ctr_stream(key, nonce + b"\0\0\0\2")


def _gcm(key: bytes, nonce: bytes) -> Stream:
    return Cipher(AES(key), GCM(nonce)).encryptor()


BACKENDS: dict[str, Backend] = {"gcm": _gcm, "ctr": _ctr}


def nonce(ring: int, segment: int) -> bytes:
    return ring.to_bytes(4, "big") + segment.to_bytes(8, "big")


@cache
def fastest() -> str:
    """The backend that fills 1 MiB sooner on this machine; the choice changes speed only, never a byte.

    They take turns: a processor needs a moment until its wide units are at full speed, and what it needs for other
    work it takes from both.
    """
    target, best = bytearray(CHUNK * 4 + SLACK), dict.fromkeys(BACKENDS, math.inf)
    for _ in range(12):
        for name, backend in BACKENDS.items():
            stream = backend(bytes(32), nonce(0, 0))
            start = time.perf_counter()
            for _ in range(4):
                stream.update_into(ZEROS[: CHUNK * 4], target)
            best[name] = min(best[name], time.perf_counter() - start)
    return min(best, key=lambda name: best[name])


def open_stream(key: bytes, nonce: bytes, backend: str = "") -> Stream:
    """A keystream under ``key`` (32 bytes) and ``nonce`` (12 bytes)."""
    return BACKENDS[backend or fastest()](key, nonce)
