"""Wheels that install without a network, and lists that tell exactly what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedprofile.cli.main import main
from fedprofile.deployment import wheelhouse
from fedprofile.deployment.wheelhouse import Component, closure, make_wheelhouse, write_lists
from fedprofile.errors import UsageError

FOUND = {
    "fedprofile": Component("fedprofile", "9", "Apache-2.0", ("small",)),
    "small": Component("small", "1.0", "", ()),
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real wheels, built without a network."""
    root = tmp_path_factory.mktemp("wheels")
    for c in FOUND.values():
        source = root / c.name
        source.mkdir()
        (source / f"{c.name}.py").write_text("")
        needs = "".join(f"'{n}'" for n in c.needs)
        body = f"name = '{c.name}'\nversion = '{c.version}'\ndependencies = [{needs}]\n"
        body += f"[tool.setuptools]\npy-modules = ['{c.name}']\n"
        (source / "pyproject.toml").write_text(f"[project]\n{body}")
        wheelhouse._pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(root / "house"), str(source))
    return root / "house"


@pytest.fixture
def folder(tmp_path: Path, wheels: Path) -> Path:
    (tmp_path / "wheels").mkdir()
    for wheel in wheels.iterdir():
        (tmp_path / "wheels" / wheel.name).write_bytes(wheel.read_bytes())
    return tmp_path


def install(folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["install", "--no-index", "--find-links", "wheels", "--require-hashes", "-r", "requirements.txt"]
    return subprocess.run(
        [sys.executable, "-m", "pip", *words, "--target", "installed"],
        cwd=folder, check=False, capture_output=True, text=True,
    )  # fmt: skip


def test_pip_takes_what_is_listed_and_refuses_a_wheel_that_was_changed(folder: Path) -> None:
    made = write_lists(folder, FOUND)
    assert (made.components, made.digest in (folder / "INSTALL.txt").read_text()) == (2, True)
    done = install(folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "installed" / "small.py").exists()
    (small,) = (folder / "wheels").glob("small*")
    small.write_bytes(small.read_bytes() + b"\0")
    assert "DO NOT MATCH THE HASHES" in install(folder).stderr


def test_the_bill_names_every_wheel_and_who_needs_it(folder: Path) -> None:
    write_lists(folder, FOUND)
    bill = json.loads((folder / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/fedprofile@9"
    assert [c["name"] for c in bill["components"]] == ["small"]
    assert bill["dependencies"][0] == {"ref": "pkg:pypi/fedprofile@9", "dependsOn": ["pkg:pypi/small@1.0"]}
    hashed = {c["hashes"][0]["content"] for c in (*bill["components"], bill["metadata"]["component"])}
    assert all(h in (folder / "requirements.txt").read_text() for h in hashed)
    before = (folder / "sbom.cdx.json").read_bytes()
    write_lists(folder, FOUND)
    assert (folder / "sbom.cdx.json").read_bytes() == before


def test_a_wheel_too_few_or_too_many_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="small"):
        write_lists(folder, {"fedprofile": FOUND["fedprofile"]})


def test_what_is_installed_here_is_found_with_all_that_it_needs() -> None:
    found = closure("fedprofile")
    assert {"torch", "flwr", "cryptography", "cffi", "ray"} <= found.keys(), "ray comes by an extra of flwr"
    assert all(need in found for c in found.values() for need in c.needs)
    assert "pytest" not in found
    with pytest.raises(UsageError, match="not installed"):
        closure("no-such-package")


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        make_wheelhouse(tmp_path)


@pytest.mark.nightly
def test_the_whole_wheelhouse_makes_a_node_without_a_network(tmp_path: Path) -> None:
    assert main(["node", "bundle", str(tmp_path / "house")]) == 0
    env = {
        **os.environ,
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    env = {k: v for k, v in env.items() if k not in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")}

    def typed(*words: str) -> None:
        subprocess.run(words, cwd=tmp_path / "house", env=env, check=True)

    typed(sys.executable, "-m", "venv", "env")
    listed = ("--no-index", "--find-links", "wheels", "--require-hashes", "-r", "requirements.txt")
    typed("env/bin/python", "-m", "pip", "-q", "install", *listed)
    typed("env/bin/fedprofile", "node", "init", "home", "--party", "clinic-a", "--role", "medical")
    assert (tmp_path / "house" / "home" / "request.json").exists()
