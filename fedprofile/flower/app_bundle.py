"""The Flower app bundle (FAB): one pyproject.toml that points at the installed package, and nothing else.

No code travels with a run. The bundle's hash therefore says which release of fedprofile the coordinator runs, and a
node lists the hashes that it accepts; ``fab_hash()`` is that of the release installed here. A stock SuperNode has no
such list; Flower hands it the bundle's ``release`` instead, which the ClientApp compares.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

PYPROJECT = """\
[project]
name = "fedprofile"
version = "{version}"
description = "Federated customer profiles; all code comes from the installed package"
dependencies = []

[tool.flwr.app]
publisher = "fedprofile"

[tool.flwr.app.components]
serverapp = "fedprofile.flower.server_app:app"
clientapp = "fedprofile.flower.client_app:app"

[tool.flwr.app.config]
job = ""
release = "{version}"
"""


def pyproject() -> bytes:
    return PYPROJECT.format(version=version("fedprofile")).encode()


def write_app(folder: Path) -> Path:
    """Make the app folder that ``flwr run`` takes; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_bytes(pyproject())
    return folder


def build_fab() -> bytes:
    """The bundle's bytes: the same in every place with this release, as Flower fixes dates and order."""
    from flwr.cli.build import build_fab_from_files

    fab: bytes = build_fab_from_files({"pyproject.toml": pyproject()})[0]
    return fab


def fab_hash() -> str:
    """SHA-256 of the bundle, hexadecimal: what an allow-list holds and ``flwr list`` shows."""
    return hashlib.sha256(build_fab()).hexdigest()
