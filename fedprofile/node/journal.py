"""What this node sent and refused, one canonical JSON line an event, on disk before anything leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedprofile.types import canonical


class Journal:
    """Append-only. Outlives runs: caps and the differencing rule look back through it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: dict[str, Any]) -> None:
        """Durable when it returns."""
        with open(self.path, "ab") as handle:
            handle.write(canonical(event) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with open(self.path, "rb") as handle:
            for line in handle:
                if line.endswith(b"\n"):  # a torn last line was never acted upon
                    yield json.loads(line)
