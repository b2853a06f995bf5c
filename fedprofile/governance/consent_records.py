"""The records of a consent ledger: one line says of up to 50,000 subjects that they signed, or took back, the same.

``subjects`` is base64 of 16 bytes each; ``from`` and ``to`` are UTC seconds since 1970, one number where all are equal,
else base64 of a little-endian int64 each.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedprofile.governance.subjects import Subjects, encode

Kind = Literal["grant", "authorisation"]
KINDS: tuple[Kind, ...] = ("grant", "authorisation")
FOREVER = int(np.iinfo(np.int64).max)
BLOCK = 50_000
"""Subjects in one line: a line stays near 2 MB."""
Seconds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Terms:
    """What many customers signed alike. ``recipient`` is a party id; of a grant it is the holder itself."""

    kind: Kind
    purpose: str
    recipient: str
    classes: tuple[str, ...]
    text: str
    channel: str


def signed_records(terms: Terms, subjects: Subjects, start: Seconds, end: Seconds, at: int) -> list[dict[str, Any]]:
    """Ledger records of n customers who signed the same terms: subjects (n, 2), start and end (n,) UTC seconds."""
    records = []
    for i in range(0, len(subjects), BLOCK):
        block = slice(i, i + BLOCK)
        records.append(
            {
                "event": terms.kind,
                "at": at,
                "purpose": terms.purpose,
                "recipient": terms.recipient,
                "classes": list(terms.classes),
                "text": terms.text,
                "channel": terms.channel,
                "subjects": encode(subjects[block]),
                "from": _written(start[block]),
                "to": _written(end[block]),
            }
        )
    return records


def revocation_records(
    subjects: Subjects, channel: str, at: int, *, purpose: str = "", recipient: str = "", deletion: bool = False
) -> list[dict[str, Any]]:
    """Records that take back all (empty) or one purpose's and recipient's terms; a deletion request takes back all."""
    scope = {} if deletion else {"purpose": purpose, "recipient": recipient}
    event = "deletion" if deletion else "revocation"
    blocks = [subjects[i : i + BLOCK] for i in range(0, len(subjects), BLOCK)]
    return [{"event": event, "at": at, "channel": channel, "subjects": encode(b), **scope} for b in blocks]


def _written(times: Seconds) -> int | str:
    """One number where all are equal, else base64 of little-endian int64."""
    if (times == times[0]).all():
        return int(times[0])
    return base64.b64encode(times.astype("<i8").tobytes()).decode()


def times(value: int | str, n: int) -> Seconds:
    """(n,) from what ``signed_records`` wrote. Raises ValueError for another number of them."""
    if isinstance(value, int):
        return np.full(n, value, dtype=np.int64)
    held = np.frombuffer(base64.b64decode(value, validate=True), "<i8").astype(np.int64)
    if len(held) != n:
        raise ValueError("one time for each subject")
    return held
