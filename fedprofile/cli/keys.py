"""What people type or hold of keys: files with a private one, public ones and hashes in hexadecimal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fedprofile.errors import UsageError

if TYPE_CHECKING:
    from fedprofile.secagg.identity import Identity


def new_key(file: Path) -> Identity:
    """Draw a key into a new file that only this user reads. Raises UsageError."""
    from fedprofile.secagg.identity import Identity

    seed = os.urandom(32)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{file.name} exists", "Name a new file.") from None
    except OSError as error:
        raise UsageError(f"{file.name} cannot be written: {error.strerror}", "Name another place.") from None
    with os.fdopen(handle, "wb") as out:
        out.write(seed)
    return Identity.from_seed(seed)


def read_key(file: Path, maker: str) -> Identity:
    """``maker``: the command that makes such a file. Raises UsageError for another, or one that others may read."""
    from fedprofile.data.reading import read_bytes
    from fedprofile.secagg.identity import Identity

    seed = read_bytes(file, file.name)
    if len(seed) != 32:
        raise UsageError(f"{file.name} is no key file", f"Make one with `{maker}`.")
    if file.stat().st_mode & 0o077:
        raise UsageError(f"others may read {file.name}", f"chmod 600 {file.name}; if they did, have it revoked.")
    return Identity.from_seed(seed)


def public_key(text: str, mend: str = "Copy it from the roster.") -> bytes:
    """32 bytes. Raises UsageError."""
    return hex32(text, "a public key", mend)


def hex32(text: str, what: str, mend: str) -> bytes:
    """32 bytes. Raises UsageError."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise UsageError(f"{what} has 64 hexadecimal digits", mend)
    return found
