"""Files that only this user reads, replaced whole or not at all, on disk when the call returns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace_private(path: Path, data: bytes) -> None:
    """``path`` holds ``data``, mode 0600."""
    replace_private_by(path, lambda new: new.write_bytes(data))


def replace_private_by(path: Path, write: Callable[[Path], object]) -> None:
    """``path`` holds what ``write`` put into a new file of that name; files that it wrote beside come along, first."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:  # mode 0700
        write(Path(folder) / path.name)
        for new in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            new.chmod(0o600)
            with open(new, "rb") as handle:
                os.fsync(handle.fileno())
            new.replace(path.parent / new.name)
