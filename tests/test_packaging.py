"""The wheel has everything: dependencies, command, entry points, configs and data specs."""

from __future__ import annotations

import email.message
import email.parser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = ("data", "duckdb", "postgres", "dev")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built offline from a copy, so that nothing is left in the tree."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy)
    for name in ("fedprofile", "configs", "partners"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(copy / "dist"), str(copy)], check=True)
    return zipfile.ZipFile(next((copy / "dist").glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel) -> email.message.Message:
    name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def declared() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(section: str, key: str) -> list[str]:
    return declared()[section][key].split("\n")[1:]


def bare(requirement: str) -> str:
    return re.split(r"[<>=!\[; ]", requirement)[0].lower()


def test_metadata_has_all_that_setup_cfg_declares(metadata):
    required = metadata.get_all("Requires-Dist")
    base = {bare(r) for r in required if "extra ==" not in r}
    assert base == {bare(r) for r in lines("options", "install_requires")}
    for extra in EXTRAS:
        named = {bare(r) for r in required if f'extra == "{extra}"' in r}
        assert named == {bare(r) for r in lines("options.extras_require", extra)}
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    assert metadata["Summary"]


def test_entry_points(wheel):
    parser = ConfigParser()
    parser.read_string(wheel.read(next(n for n in wheel.namelist() if n.endswith("/entry_points.txt"))).decode())
    assert parser["console_scripts"]["fedprofile"] == "fedprofile.cli.main:main"
    assert set(parser["fedprofile.sources"]) == {"folder", "nhanes", "k401"}


def test_every_module_config_and_data_spec_is_inside(wheel):
    inside = set(wheel.namelist())
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "fedprofile").rglob("*.py")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "fedprofile" / "data" / "specs").glob("*.json")}
    wanted |= {f"fedprofile/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    wanted |= {f"fedprofile/{path.relative_to(ROOT)}" for path in (ROOT / "partners").glob("*/contract.yaml")}
    wanted |= {"fedprofile/partners/data.md"}
    assert wanted <= inside
    assert {name for name in inside if name.startswith("tests")} == set()


def test_every_room_is_a_listed_package():
    found = (path.parent.relative_to(ROOT) for path in (ROOT / "fedprofile").rglob("__init__.py"))
    rooms = {".".join(path.parts) for path in found}
    assert set(lines("options", "packages")) == rooms | {"fedprofile.configs", "fedprofile.partners"}


def test_every_requirement_is_pinned_and_no_pin_is_for_one_platform():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, pin = line.split("==")
            pins[name.lower().replace("_", "-")] = pin
    required = lines("options", "install_requires")
    required += [r for extra in EXTRAS for r in lines("options.extras_require", extra)]
    assert {bare(r) for r in required} <= set(pins)
    assert not [name for name, pin in pins.items() if "+" in pin]
    assert "fedprofile" not in pins


def test_flower_reads_its_half_from_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {"name", "version", "dynamic"} == set(project["project"])
    # a field of setup.cfg that is not listed here is dropped from the wheel without an error
    assert {"dependencies", "scripts", "entry-points", "optional-dependencies"} <= set(project["project"]["dynamic"])
    assert {"publisher", "components"} <= set(project["tool"]["flwr"]["app"])
