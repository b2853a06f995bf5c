"""What installs a node on a machine without a network: every wheel, their hashes, and a software bill of materials.

::

    wheels/           fedprofile and all that it needs, in the versions that are installed here, as wheels
    requirements.txt  each with its version and SHA-256: pip refuses any other file
    sbom.cdx.json     CycloneDX 1.6: components, licences, hashes, who needs whom
    INSTALL.txt       the commands

The wheels fit machines like this one: the same Python version, system and processor.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from fedprofile.errors import UsageError

PROJECT = "fedprofile"
WHEELS, REQUIREMENTS, SBOM, INSTALL = "wheels", "requirements.txt", "sbom.cdx.json", "INSTALL.txt"
_INSTALL = """\
Python {python} on {platform}. No network is needed, and none is used:

    python{python} -m venv fedprofile-env
    fedprofile-env/bin/pip install --no-index --find-links wheels --require-hashes -r requirements.txt
    fedprofile-env/bin/fedprofile doctor

Compare this file's folder with the sender over another channel: SHA-256 of requirements.txt
{digest}
It names the SHA-256 of every wheel; pip refuses a wheel that has another.
"""


@dataclass(frozen=True)
class Component:
    """An installed distribution: ``needs`` are names of others, for this machine."""

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Wheelhouse:
    folder: Path
    components: int
    bytes: int
    digest: str


def make_wheelhouse(folder: Path, wheel: Path | None = None) -> Wheelhouse:
    """``wheel``: fedprofile's own; by default it is built from the folder that this installation came from.

    Raises UsageError for a folder in use, where the own wheel cannot be made, or where pip cannot fetch another.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", "Name a new folder.")
    found = closure(PROJECT)
    wheels = folder / WHEELS
    wheels.mkdir(parents=True, exist_ok=True)
    own = str(wheel) if wheel else str(_source(distribution(PROJECT)))
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), own)
    pins = [f"{c.name}=={c.version}" for c in found.values() if c.name != PROJECT]
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), *pins)  # some are published as source only
    return write_lists(folder, found)


def closure(name: str, extras: Iterable[str] = ()) -> dict[str, Component]:
    """What is installed of a distribution and of all that it needs here, by normalised name, in name order.

    Raises UsageError for one that is missing.
    """
    found: dict[str, Component] = {}
    waiting = [(canonicalize_name(name), frozenset(extras))]
    seen = set(waiting)
    while waiting:
        wanted, asked = waiting.pop()
        try:
            held = distribution(wanted)
        except PackageNotFoundError:
            raise UsageError(
                f"{wanted} is not installed", "Install fedprofile again; `fedprofile doctor` looks."
            ) from None
        needs = []
        for requirement in map(Requirement, held.requires or []):
            environments: list[dict[str, str]] = [{"extra": e} for e in asked] or [{"extra": ""}]
            if requirement.marker and not any(requirement.marker.evaluate(e) for e in environments):
                continue
            needed = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            needs.append(needed[0])
            if needed not in seen:
                seen.add(needed)
                waiting.append(needed)
        before = found[wanted].needs if wanted in found else ()
        found[wanted] = Component(wanted, held.version, _licence(held), tuple(sorted({*before, *needs})))
    return dict(sorted(found.items()))


def write_lists(folder: Path, found: Mapping[str, Component]) -> Wheelhouse:
    """Hash the wheels in a folder, and write what installs and what describes them.

    Raises UsageError where they are not exactly those of ``found``.
    """
    files = {_name(p): p for p in sorted((folder / WHEELS).glob("*.whl"))}
    if files.keys() != found.keys():
        wrong = ", ".join(sorted(files.keys() ^ found.keys()))
        raise UsageError(f"{folder / WHEELS} does not hold what is installed here: {wrong}", "Make it again.")
    hashes = {name: _sha256(path) for name, path in files.items()}
    lines = [f"{c.name}=={c.version} --hash=sha256:{hashes[c.name]}" for c in found.values()]
    text = "\n".join(lines) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / REQUIREMENTS).write_text(text)
    (folder / SBOM).write_text(json.dumps(bill(found, hashes, digest), indent=1, ensure_ascii=False) + "\n")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    (folder / INSTALL).write_text(_INSTALL.format(python=python, platform=sys.platform, digest=digest))
    return Wheelhouse(folder, len(found), sum(p.stat().st_size for p in files.values()), digest)


def bill(found: Mapping[str, Component], hashes: Mapping[str, str], digest: str) -> dict[str, Any]:
    """CycloneDX 1.6 (ECMA-424), the same for the same wheels."""

    def reference(name: str) -> str:
        return f"pkg:pypi/{name}@{found[name].version}"

    def component(c: Component, kind: str) -> dict[str, Any]:
        about: dict[str, Any] = {"type": kind, "bom-ref": reference(c.name), "name": c.name, "version": c.version}
        about |= {"purl": reference(c.name), "hashes": [{"alg": "SHA-256", "content": hashes[c.name]}]}
        return about | ({"licenses": [{"license": {"name": c.licence}}]} if c.licence else {})

    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": component(found[PROJECT], "application")},
        "components": [component(c, "library") for c in found.values() if c.name != PROJECT],
        "dependencies": [
            {"ref": reference(c.name), "dependsOn": [reference(n) for n in c.needs]} for c in found.values()
        ],
    }


def _source(held: Distribution) -> Path:
    """The folder that an installation was made from."""
    origin = json.loads(held.read_text("direct_url.json") or "{}").get("url", "")
    source = Path(unquote(urlsplit(origin).path)) if origin.startswith("file:") else None
    if source is None or not source.exists():
        raise UsageError("fedprofile was installed from an index", "Name its own wheel with --wheel FILE.")
    return source


def _licence(held: Distribution) -> str:
    stated = next((held.metadata[k] for k in ("License-Expression", "License") if k in held.metadata), "")
    classifiers = [c.rpartition(" :: ")[2] for c in held.metadata.get_all("Classifier", []) if c.startswith("License")]
    # some put the whole text of the licence there
    return stated if stated and "\n" not in stated and len(stated) < 100 else ", ".join(classifiers)


def _name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"pip {words[0]} failed: {last}", "Mend it, or run this where an index can be reached.")
