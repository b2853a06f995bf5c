"""A folder of files sealed by a manifest: written whole or not at all, and verified before anything is parsed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedprofile.errors import DataError, UsageError
from fedprofile.registry.seal import SIGNATURE, Seal, Trust, sign_manifest, verify_manifest
from fedprofile.secagg.identity import Identity
from fedprofile.types import canonical

MANIFEST = "manifest.json"
WEIGHTS, BODY = "weights.safetensors", "bundle.json"
BUNDLE = frozenset({WEIGHTS, BODY})
VERSION = 1
MEND = "Copy the bundle again from where it was written; do not edit it."


@dataclass(frozen=True)
class Sealed:
    """Verified bytes by file name, nothing of them parsed yet, and the seal that they bear."""

    files: Mapping[str, bytes] = field(repr=False)
    seal: Seal


def write_sealed(folder: Path, files: Mapping[str, bytes], identity: Identity) -> None:
    """Write files, their manifest and its signature into a new or empty folder, which appears complete or not at all.

    Raises UsageError if the folder holds anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder.name} exists and is not empty", "Choose another folder for the bundle.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        manifest = _manifest(files)
        for name, data in {**files, MANIFEST: manifest, SIGNATURE: sign_manifest(manifest, identity)}.items():
            (partial / name).write_bytes(data)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_sealed(folder: Path, names: frozenset[str] = BUNDLE, trust: Trust | None = None) -> Sealed:
    """The bytes of exactly the files ``names``, each as its manifest says, and the manifest as its signer left it.

    trust: the keys of which one must have signed; None takes the key that lies beside the manifest (``Seal.pinned``).
    Raises DataError for a missing, additional, linked or changed file, a manifest that names other files, or a
    signature that does not fit or is not trusted.
    """
    _check_entries(folder, names | {MANIFEST, SIGNATURE})
    files = {name: _read(folder, name) for name in sorted(names)}
    manifest = _read(folder, MANIFEST)
    # Comparing bytes leaves no freedom in the manifest: no doubled key, other spelling or additional entry.
    if manifest != _manifest(files):
        raise DataError(_culprit(manifest, files), "the content is not what the bundle's manifest says", MEND)
    return Sealed(files, verify_manifest(manifest, _read(folder, SIGNATURE), trust))


def _manifest(files: Mapping[str, bytes]) -> bytes:
    sealed = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    return canonical({"version": VERSION, "files": sealed})


def _check_entries(folder: Path, names: frozenset[str]) -> None:
    if not folder.is_dir():
        raise DataError(folder.name, "no bundle is here", "Give the folder that a training run wrote.")
    found = {entry.name: entry for entry in os.scandir(folder)}
    for name in sorted(names - set(found)):
        if name == SIGNATURE and set(found) >= BUNDLE:
            mend = "A version that did not sign yet wrote it: train again, or find out who took the signature away."
            raise DataError(name, "the file is missing from the bundle", mend)
        raise DataError(name, "the file is missing from the bundle", MEND)
    for name in sorted(set(found) - names):
        raise DataError(name, "the file does not belong into a bundle", "Remove it, or copy the bundle again.")
    for name, entry in sorted(found.items()):
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise DataError(name, "not a regular file", MEND)


def _read(folder: Path, name: str) -> bytes:
    try:
        # The entry may have become a link since it was looked at.
        descriptor = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise DataError(name, f"the file cannot be read: {error.strerror}", MEND) from None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _culprit(manifest: bytes, files: Mapping[str, bytes]) -> str:
    """The file to name in the error: the first that differs, else the manifest itself."""
    try:
        listed = json.loads(manifest)["files"]
        sealed = json.loads(_manifest(files))["files"]
        return next(name for name in sorted(files) if listed[name] != sealed[name])
    except (ValueError, KeyError, TypeError, RecursionError, StopIteration):
        return MANIFEST
