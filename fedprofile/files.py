"""Files that only this user reads, replaced whole or not at all, on disk when the call returns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

PRIVATE = 0o600


def replace_private(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """``path`` holds ``data``."""
    replace_private_by(path, lambda new: new.write_bytes(data), mode)


def replace_private_by(path: Path, write: Callable[[Path], object], mode: int = PRIVATE) -> None:
    """``path`` holds what ``write`` put into a new file of that name; files that it wrote beside come along, first."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:  # mode 0700
        write(Path(folder) / path.name)
        for new in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            new.chmod(mode)
            sync(new)
            new.replace(path.parent / new.name)
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on disk: a rename is there once its folder is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
