"""Subject pseudonyms: what a consent ledger writes in place of a customer's id.

``HMAC-SHA256(subject key, normalised id)``, first 16 bytes, where each home derives the subject key from its own root
secret. So the pseudonyms of one person in two ledgers have nothing in common: nobody can join ledgers, and without the
secret nobody can try ids against one. The home itself can, which is how it finds the row that a line is about.
"""

from __future__ import annotations

import base64
import hmac

import numpy as np
import numpy.typing as npt

SIZE = 16
Subjects = npt.NDArray[np.uint64]
"""(n, 2): the 16 bytes of n pseudonyms as two little-endian words."""


def pseudonyms(ids: npt.NDArray[np.str_], key: bytes) -> Subjects:
    """(n, 2) for normalised ids (n,); about two microseconds an id."""
    marks = b"".join([hmac.digest(key, i.encode(), "sha256")[:SIZE] for i in ids.tolist()])
    return from_bytes(marks)


def from_bytes(marks: bytes) -> Subjects:
    return np.frombuffer(marks, "<u8").reshape(-1, 2)


def to_bytes(subjects: Subjects) -> bytes:
    return subjects.astype("<u8").tobytes()


def encode(subjects: Subjects) -> str:
    return base64.b64encode(to_bytes(subjects)).decode()


def decode(text: str) -> Subjects:
    """Raises ValueError for text that is not base64 of whole pseudonyms."""
    return from_bytes(base64.b64decode(text, validate=True))


def key_check(key: bytes) -> str:
    """Recognises the subject key of a ledger without giving it away."""
    return hmac.digest(key, b"\0fedprofile/subject-key-check/1", "sha256").hex()
