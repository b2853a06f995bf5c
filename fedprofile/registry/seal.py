"""The trainer's signature over a bundle's manifest, and who is trusted to have made it.

Ed25519 (RFC 8032) over ``"fps1/BundleManifest/1" 0x00 SHA-256(manifest.json)``, by the label owner's own identity: the
domain keeps it apart from everything else that this key signs. Deterministic, so equal runs keep equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedprofile.errors import DataError, ProtocolError, UsageError
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import canonical

SIGNATURE = "manifest.sig"
_TYPE = "BundleManifest/1"
_KEY = re.compile(r"[0-9a-f]{64}")

Trust = frozenset[bytes]
"""Raw public keys (32 bytes each) of which one must have signed."""


@dataclass(frozen=True)
class Seal:
    """What was verified. manifest: hex SHA-256 of manifest.json; key: hex of the public key that signed it.

    ``pinned`` says whether that key was asked for: where nobody named one, the bundle is whole and signed, but by
    whom is only what it says itself.
    """

    manifest: str
    key: str
    pinned: bool


def sign_manifest(manifest: bytes, identity: Identity) -> bytes:
    """The bytes of ``manifest.sig``."""
    signature = identity.sign(_TYPE, hashlib.sha256(manifest).digest())
    return _encode(identity.sign_pk, signature)


def verify_manifest(manifest: bytes, signed: bytes, trust: Trust | None) -> Seal:
    """Raises DataError for a signature that does not fit, or of a key that ``trust`` lacks."""
    try:
        body = json.loads(signed)
        key, signature = bytes.fromhex(body["key"]), bytes.fromhex(body["signature"])
        hashed = hashlib.sha256(manifest).digest()
        verify(key, _TYPE, hashed, signature)
    except (ValueError, KeyError, TypeError, RecursionError, ProtocolError):
        what = "the signature does not fit the bundle's manifest"
        raise DataError(SIGNATURE, what, "Take the bundle from where it was written.") from None
    if signed != _encode(key, signature):  # no other spelling of the same signature
        raise DataError(SIGNATURE, "not as a bundle's manifest is signed", "Take it from where it was written.")
    if trust is not None and key not in trust:
        what = f"signed by a key that is not trusted here ({short(key.hex())})"
        raise DataError(SIGNATURE, what, "Ask the trainer for the key, on another way than the bundle came.")
    return Seal(hashed.hex(), key.hex(), trust is not None)


def short(key: str) -> str:
    """What people compare: the first 16 hex digits of a public key."""
    return key[:16]


def parse_keys(words: Iterable[str], where: str) -> Trust:
    """Public keys from 64 hex digits each. Raises UsageError, naming ``where``, for anything else and for none."""
    found = [word.strip().lower() for word in words]
    if not found or not all(_KEY.fullmatch(word) for word in found):
        what = f"{where} holds no list of public keys"
        raise UsageError(what, "One key a line, 64 hex digits: `fedprofile bundle key HOME` prints the label owner's.")
    return frozenset(bytes.fromhex(word) for word in found)


def read_keys(file: Path) -> Trust:
    """The keys in a file, one a line; ``#`` begins a comment. Raises UsageError."""
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"the key file {file.name!r} cannot be read", "Check the path.") from None
    return parse_keys([line for line in lines if line], file.name)


def _encode(key: bytes, signature: bytes) -> bytes:
    return canonical({"algorithm": "ed25519", "key": key.hex(), "signature": signature.hex()})
