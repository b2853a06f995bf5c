"""Bytes that hide something come from the node's own secrets, never from the run's seed (secure-sum 9.9)."""

from __future__ import annotations

import os
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

ByteSource = Callable[[int], bytes]


def keystream_source(key: bytes) -> ByteSource:
    """An endless AES-256-CTR keystream under a 32-byte key that serves one purpose only."""
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return lambda size: encryptor.update(bytes(size))


def session_source(simulated_key: bytes | None) -> ByteSource:
    """Randomness of key agreement: the system's, or derived where the federation's secrets are simulated."""
    return os.urandom if simulated_key is None else keystream_source(simulated_key)
