"""Where a promotion log stands, and the one way to move it on: compare and swap.

Everybody who wants to write reads the log, decides, and swaps the head that was read for the next line. Of several who
read the same head one wins; the others read again and decide again. A head is signed by the person who moved it, so
that whoever only holds the storage can stop a registry, but not speak in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedprofile.governance.chain import START, Chain, Head, Record, Sign

LOG = "promotion"
"""The chain's name, in every store."""


class HeadStore(Protocol):
    """A promotion log on some storage."""

    def lines(self, after: Head = START) -> Iterator[tuple[Head, Record]]:
        """Every line behind ``after`` with its head, each checked against the one before; signatures are not.

        Raises DataError naming the line.
        """

    def swap(self, old: Head, record: Record, sign: Sign) -> Head | None:
        """Append ``record`` if the log still stands at ``old``: the new head, durable; None if somebody was faster."""


@dataclass(frozen=True)
class FileHeads:
    """A log in a file of this machine, under a lock that every process here respects."""

    path: Path

    def lines(self, after: Head = START) -> Iterator[tuple[Head, Record]]:
        return Chain(self.path, LOG).lines(after)

    def swap(self, old: Head, record: Record, sign: Sign) -> Head | None:
        return Chain(self.path, LOG, sign).swap(old, record)
