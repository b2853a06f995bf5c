"""Sensitive columns at rest: envelope encryption, one cell at a time (AES-256-GCM, NIST SP 800-38D).

Each column of each stored snapshot has a data key of its own, drawn from the system; the home's key-encryption key
wraps it, both bound to party, column, snapshot and grade as additional data. A cell's nonce is its row number, which
comes once under a key, so a cell that was moved to another row, column or snapshot does not open. Single cells are
encrypted so that a permit, or a break-glass read, opens the rows that it names and no other.

Only the home holds the key-encryption key (derived from its secret, never stored). Whoever copies the file learns how
many rows there are and the length of the longest text of a column (all cells of a column have one length): not even
which values are missing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedprofile.errors import DataError
from fedprofile.types import digest

Kind = Literal["number", "text"]
_NONCE = 12


@dataclass(frozen=True)
class SealedColumn:
    """What is stored beside a column's cells. ``key`` is its data key, wrapped: nonce, ciphertext, tag."""

    kind: Kind
    grade: str
    key: bytes

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "grade": self.grade, "key": self.key.hex()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SealedColumn:
        return SealedColumn(data["kind"], data["grade"], bytes.fromhex(data["key"]))


@dataclass(frozen=True)
class Vault:
    """Seals and opens columns of one party. ``kek`` has 32 bytes and never leaves the home."""

    party: str
    kek: bytes = field(repr=False)

    def seal(
        self, values: npt.NDArray[Any], kind: Kind, column: str, snapshot: bytes, grade: str
    ) -> tuple[SealedColumn, list[bytes]]:
        """Values (n,) as in a ``Table`` -> n cells of equal length, and what opens them."""
        bound, key, nonce = self._bound(column, snapshot, grade), AESGCM.generate_key(256), os.urandom(_NONCE)
        wrapped = nonce + AESGCM(self.kek).encrypt(nonce, key, bound)
        cipher = AESGCM(key)
        cells = [cipher.encrypt(_row_nonce(i), plain, bound) for i, plain in enumerate(_plain(values, kind))]
        return SealedColumn(kind, grade, wrapped), cells

    def open(
        self, sealed: SealedColumn, cells: Sequence[bytes], rows: npt.NDArray[np.int64], column: str, snapshot: bytes
    ) -> npt.NDArray[Any]:
        """The values (k,) of the cells that stand in ``rows`` (k,) of the stored table.

        Raises DataError for a cell, key or name that does not belong here; it tells no value.
        """
        bound = self._bound(column, snapshot, sealed.grade)
        try:
            key = AESGCM(self.kek).decrypt(sealed.key[:_NONCE], sealed.key[_NONCE:], bound)
            cipher = AESGCM(key)
            plain = [cipher.decrypt(_row_nonce(i), c, bound) for i, c in zip(rows.tolist(), cells, strict=True)]
        except (InvalidTag, ValueError):
            raise DataError(
                "the stored table",
                "an encrypted column does not open: it was changed, or belongs to another home",
                "Store the table again from its source.",
                column=column,
            ) from None
        return _values(plain, sealed.kind)

    def _bound(self, column: str, snapshot: bytes, grade: str) -> bytes:
        return digest("sealed-column/1", self.party.encode(), column.encode(), snapshot, grade.encode())


def _row_nonce(row: int) -> bytes:
    return row.to_bytes(_NONCE, "big")


def _plain(values: npt.NDArray[Any], kind: Kind) -> list[bytes]:
    if kind == "number":
        return [struct.pack("<d", v) for v in values.tolist()]
    encoded = [None if v is None else v.encode() for v in values.tolist()]
    width = max((len(e) for e in encoded if e is not None), default=0)
    return [_padded(e, width) for e in encoded]


def _padded(text: bytes | None, width: int) -> bytes:
    """A signed length, -1 for missing, then the text filled up to the column's width."""
    return struct.pack("<i", -1 if text is None else len(text)) + (text or b"").ljust(width, b"\0")


def _values(plain: Sequence[bytes], kind: Kind) -> npt.NDArray[Any]:
    if kind == "number":
        return np.frombuffer(b"".join(plain), "<f8").astype(np.float64)
    lengths = [struct.unpack_from("<i", p)[0] for p in plain]
    texts = [None if n < 0 else p[4 : 4 + n].decode() for n, p in zip(lengths, plain, strict=True)]
    return np.array(texts, dtype=object)
