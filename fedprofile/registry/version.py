"""What a person calls a version — a number in MLflow, a folder, the beginning of its hash — and which bundle it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from fedprofile.errors import DataError, DeploymentError, UsageError
from fedprofile.governance.promotion import State
from fedprofile.registry.files import read_sealed
from fedprofile.registry.home import Registry

Fetch = Callable[[str, Path], Path]
"""Downloads the bundle of an MLflow version into an empty folder, and says where it lies."""
_SHORTEST = 6


def find(registry: Registry, state: State, name: str, fetch: Fetch | None) -> tuple[str, str]:
    """(manifest, version number or ""), its bundle on the shelf and verified.

    A number is looked up in MLflow even where the log knows it, since what MLflow serves must be what was judged;
    where MLflow does not answer, the log's word holds. Raises UsageError, or DataError where the two differ.
    """
    if Path(name).is_dir():
        return registry.shelf.put(Path(name)), ""
    if name.isdecimal():
        return _numbered(registry, state, name, fetch), name
    known = {m for m in (*state.releases, *registry.shelf.find(name)) if m.startswith(name)}
    if len(name) < _SHORTEST or len(known) != 1:
        which = "several versions begin so" if len(known) > 1 and len(name) >= _SHORTEST else "no version is called so"
        raise UsageError(f"{name!r}: {which}", "Give a version number of MLflow, or the folder of a bundle.")
    manifest = known.pop()
    have(registry, state, manifest, fetch)
    return manifest, ""


def logged(state: State, name: str) -> str:
    """The manifest of a version that the log knows, by number or the beginning of its hash. Raises UsageError."""
    known = [
        m for m, r in state.releases.items() if r.version == name or (len(name) >= _SHORTEST and m.startswith(name))
    ]
    if len(known) != 1:
        raise UsageError(f"{name!r} is not one version of this log", "Look: fedprofile registry history.")
    return known[0]


def have(registry: Registry, state: State, manifest: str, fetch: Fetch | None) -> None:
    """Bring the bundle onto this machine, from MLflow if need be. Raises UsageError where nobody has it."""
    release = state.releases.get(manifest)
    if not registry.shelf.find(manifest) and release and release.version and fetch:
        with tempfile.TemporaryDirectory() as folder:
            found = fetch(release.version, Path(folder))
            if read_sealed(found).seal.manifest == manifest:
                registry.shelf.put(found)
    registry.shelf.folder(manifest)


def _numbered(registry: Registry, state: State, number: str, fetch: Fetch | None) -> str:
    before = next((r.manifest for r in state.releases.values() if r.version == number), None)
    try:
        if fetch is None:
            raise DeploymentError("this registry has no MLflow", "Give the folder of a bundle.")
        with tempfile.TemporaryDirectory() as folder:
            found = fetch(number, Path(folder))
            if before and read_sealed(found).seal.manifest != before:
                mend = "Somebody changed it after the gates. Judge it again, as a folder, or restore it in MLflow."
                raise DataError(f"version {number}", "MLflow holds another bundle than the one that was judged", mend)
            return registry.shelf.put(found)
    except DeploymentError:
        if before is None:
            raise
        registry.shelf.folder(before)
        return before
