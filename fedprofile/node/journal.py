"""What this node sent and refused, one canonical JSON line an event, on disk before anything leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedprofile.errors import DataError
from fedprofile.types import canonical


class Journal:
    """Append-only. Outlives runs: caps and the differencing rule look back through it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: dict[str, Any]) -> None:
        """Durable when it returns."""
        self._mend()
        with open(self.path, "ab") as handle:
            handle.write(canonical(event) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

    def _mend(self) -> None:
        """Cut a line that a crash tore: nothing was sent on the strength of it."""
        if not self.path.exists() or not (size := self.path.stat().st_size):
            return
        with open(self.path, "rb") as handle:
            handle.seek(size - 1)
            if handle.read() == b"\n":
                return
        os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._mend()
        if not self.path.exists():
            return
        with open(self.path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                try:
                    yield json.loads(line)
                except ValueError:
                    what = f"line {number} is damaged"
                    mend = "Without it nobody knows what was sent: make a new node, and find out what happened here."
                    raise DataError(self.path.name, what, mend) from None
