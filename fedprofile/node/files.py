"""Files that only this user reads, replaced whole or not at all, on disk when the call returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def replace_private(path: Path, data: bytes) -> None:
    """``path`` holds ``data``, mode 0600."""
    replace_private_by(path, lambda new: new.write_bytes(data))


def replace_private_by(path: Path, write: Callable[[Path], object]) -> None:
    """``path`` holds what ``write`` puts into a new file, mode 0600 before the first byte."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        write(new)
        with open(new, "rb") as handle:
            os.fsync(handle.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
