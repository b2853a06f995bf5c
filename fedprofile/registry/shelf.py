"""The registry's own copies of bundles and gate reports, named by their hash: a rollback needs nobody else."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedprofile.errors import DataError, UsageError
from fedprofile.files import sync
from fedprofile.registry.files import BODY, MANIFEST, MEND, Sealed, read_sealed


@dataclass(frozen=True)
class Shelf:
    """``bundles/<manifest>`` under ``root``, each complete or not there."""

    root: Path

    def put(self, folder: Path) -> str:
        """Verify a bundle, copy it, verify the copy; its manifest's SHA-256 (hex). One that is here stays as it is.

        Raises what ``read_sealed`` raises.
        """
        manifest = read_sealed(folder).seal.manifest
        if not (self.root / "bundles" / manifest).exists():
            self.root.joinpath("bundles").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=self.root / "bundles") as new:
                copy = Path(new) / manifest
                shutil.copytree(folder, copy, symlinks=True)
                for file in copy.iterdir():
                    sync(file)
                try:
                    copy.rename(self.root / "bundles" / manifest)
                except OSError:  # another process has just put the same one
                    if not (self.root / "bundles" / manifest).is_dir():
                        raise
        self.read(manifest)
        return manifest

    def folder(self, manifest: str) -> Path:
        """Where the bundle lies. Raises UsageError where this machine has none."""
        found = self.root / "bundles" / manifest
        if not found.is_dir():
            mend = "Give the bundle's folder as VERSION, or bring MLflow, which holds it, back."
            raise UsageError(f"bundle {manifest[:12]} is not on this machine", mend)
        return found

    def read(self, manifest: str, trainer: str | None = None) -> Sealed:
        """Verify: whole, the one that its name says, and signed by ``trainer`` (hex public key) where one is given.

        Nothing is parsed. Raises DataError, and UsageError as ``folder``.
        """
        trust = None if trainer is None else frozenset({bytes.fromhex(trainer)})
        sealed = read_sealed(self.folder(manifest), trust=trust)
        if sealed.seal.manifest != manifest:
            raise DataError(MANIFEST, "the stored bundle was changed", MEND)
        return sealed

    def meta(self, manifest: str) -> dict[str, Any]:
        """What the bundle says of itself."""
        facts: dict[str, Any] = json.loads(self.read(manifest).files[BODY])["meta"]
        return facts

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
