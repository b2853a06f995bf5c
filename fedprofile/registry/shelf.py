"""The registry's own copies of bundles and gate reports, named by their hash: a rollback needs nobody else."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedprofile.errors import DataError, UsageError
from fedprofile.registry.bundle import Bundle, open_bundle
from fedprofile.registry.files import MANIFEST, MEND


@dataclass(frozen=True)
class Shelf:
    """``bundles/<manifest>`` under ``root``, each complete or not there."""

    root: Path

    def put(self, folder: Path) -> str:
        """Verify a bundle, copy it, verify the copy; its manifest's SHA-256 (hex). One that is here stays as it is.

        Raises what ``open_bundle`` raises.
        """
        open_bundle(folder)
        manifest = manifest_hash(folder)
        if not (self.root / "bundles" / manifest).exists():
            self.root.joinpath("bundles").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=self.root / "bundles") as new:
                copy = Path(new) / manifest
                shutil.copytree(folder, copy, symlinks=True)
                for file in copy.iterdir():
                    _sync(file)
                try:
                    copy.rename(self.root / "bundles" / manifest)
                except OSError:  # another process has just put the same one
                    if not (self.root / "bundles" / manifest).is_dir():
                        raise
        self.open(manifest)
        return manifest

    def folder(self, manifest: str) -> Path:
        """Where the bundle lies. Raises UsageError where this machine has none."""
        found = self.root / "bundles" / manifest
        if not found.is_dir():
            mend = "Give the bundle's folder as VERSION, or bring MLflow, which holds it, back."
            raise UsageError(f"bundle {manifest[:12]} is not on this machine", mend)
        return found

    def open(self, manifest: str) -> Bundle:
        """Verify and open. Raises DataError where the copy is not what its name says, UsageError as ``folder``."""
        folder = self.folder(manifest)
        if manifest_hash(folder) != manifest:
            raise DataError(MANIFEST, "the stored bundle was changed", MEND)
        return open_bundle(folder)

    def trainer(self, manifest: str) -> str:
        """Hex public key under the bundle."""
        return str(self.open(manifest).meta["trainer"])

    def find(self, start: str) -> list[str]:
        """Manifests here that begin with ``start``."""
        return sorted(p.name for p in self.root.glob("bundles/*") if p.name.startswith(start) and len(p.name) == 64)

    def put_report(self, report: str, folder: Path) -> Path:
        """Copy the folder of a gate report (JSON and HTML)."""
        place = self.root / "reports" / report
        shutil.copytree(folder, place, dirs_exist_ok=True)
        return place

    def report(self, report: str) -> Path | None:
        place = self.root / "reports" / report
        return place if place.is_dir() else None


def manifest_hash(folder: Path) -> str:
    """SHA-256 of the manifest's bytes, hex. Raises DataError where there is none."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        raise DataError(folder.name, "no bundle is here", "Give the folder that a training run wrote.") from None


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
