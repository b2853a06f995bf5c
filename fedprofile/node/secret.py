"""The root secret of a node's home: 32 bytes in ``secret.key``, as they are or encrypted under a passphrase.

Encrypted, the file is a PKCS 8 private key (RFC 5958) whose seed is the secret, under the strongest encryption that the
library offers. A process that runs unattended finds the passphrase in a file that FEDPROFILE_PASSPHRASE_FILE names, or
in the systemd credential ``fedprofile-passphrase``; at a terminal it is asked for.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from getpass import getpass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedprofile.errors import UsageError

FILE = "secret.key"
SIZE = 32
VARIABLE, CREDENTIAL = "FEDPROFILE_PASSPHRASE_FILE", "fedprofile-passphrase"
LEAST = 12
"""Characters of a passphrase: below, whoever has the file tries them all."""


def encrypted(file: Path) -> bool:
    """Whether a secret, or a key for dialling, needs a passphrase."""
    return file.read_bytes().startswith(b"-----BEGIN ENCRYPTED")


def read_secret(file: Path) -> bytes:
    """The 32 bytes. Raises UsageError for a damaged file, a wrong passphrase, or one that nobody gives."""
    data = file.read_bytes()
    if not encrypted(file):
        if len(data) != SIZE:
            raise UsageError(f"{file} is damaged", "Restore it from the backup.")
        return data
    try:
        key = serialization.load_pem_private_key(data, find_passphrase())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(f"{file} does not open with this passphrase", "Check the passphrase and the file.") from None
    assert isinstance(key, Ed25519PrivateKey)
    return key.private_bytes_raw()


def encode_secret(secret: bytes, passphrase: bytes | None) -> bytes:
    """What ``read_secret`` reads."""
    if passphrase is None:
        return secret
    cipher = serialization.BestAvailableEncryption(passphrase)
    key = Ed25519PrivateKey.from_private_bytes(secret)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)


def find_passphrase(*, new: bool = False) -> bytes:
    """``new``: long enough and, at a terminal, typed twice. Raises UsageError."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(folder) / CREDENTIAL if folder else None
    if name := os.environ.get(VARIABLE):
        text = _from_file(Path(name))
    elif credential is not None and credential.exists():
        text = _from_file(credential)
    elif sys.stdin.isatty():
        text = _typed()
        if new and getpass("The same again: ") != text:
            raise UsageError("the two passphrases differ", "Type the same twice.")
    else:
        raise UsageError(
            "the node's keys are encrypted, and nobody gives the passphrase",
            f"Name a file that holds it in {VARIABLE}, or give it as the systemd credential {CREDENTIAL}.",
        )
    if new and len(text) < LEAST:
        raise UsageError(f"the passphrase has fewer than {LEAST} characters", "Take a longer one.")
    return text.encode()


@cache
def _typed() -> str:
    """Asked for once a process: its secrets are in the same memory."""
    return getpass("Passphrase of this node's keys: ")


def _from_file(path: Path) -> str:
    try:
        return path.read_text().rstrip("\r\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", f"Correct {VARIABLE}.") from None
