"""What partners read is true: blocks are read by the code that they describe, commands are commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from fedprofile.cli.main import _parser
from fedprofile.data.contract_file import parse_contract, shipped_contract
from fedprofile.data.readers.source_file import parse_source
from fedprofile.data.table_map import parse_map
from fedprofile.deployment.wheelhouse import _INSTALL
from fedprofile.errors import UsageError
from fedprofile.messages import MEANING
from fedprofile.node.secret import CREDENTIAL

PARTNERS = Path(__file__).parents[1] / "partners"
PAGE = (PARTNERS / "data.md").read_text(encoding="utf-8")


def test_every_block_is_valid() -> None:
    blocks = [yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]
    kinds = {"source": 0, "map": 0, "contract": 0}
    for raw in blocks:
        if "role" in raw:
            kinds["contract"] += 1
            assert parse_contract(raw).role == "insurer"
        elif "id" in raw:
            kinds["map"] += 1
            medical = shipped_contract("medical")
            rest = {c.name for c in medical.columns} - set(raw["columns"])
            assert parse_map({**raw, "absent": sorted(rest)}, medical).id == "patient_no"
        else:
            kinds["source"] += 1
            parse_source(raw, Path("/home"))
    assert kinds == {"source": 3, "map": 1, "contract": 1}


def test_every_reason_that_the_code_gives_is_explained() -> None:
    rooms = Path(__file__).parents[1] / "fedprofile" / "data"
    code = (rooms / "contract_cells.py").read_text() + (rooms / "contract_check.py").read_text()
    given = set(re.findall(r'pl\.lit\("([a-z_]+)"\)', code)) | set(re.findall(r'"((?:id|row)_[a-z_]+)"', code))
    assert len(given) > 15
    assert [reason for reason in sorted(given | {"impossible"}) if f"`{reason}`" not in PAGE] == []


def commands() -> list[str]:
    typed = re.findall(r"^\$ (.*)$", (PARTNERS / "README.md").read_text(), re.M)
    inline = [
        c
        for page in PARTNERS.glob("*.md")
        for c in re.findall(r"`(fedprofile (?:node|consent|coordinator) [^`]*)`", page.read_text())
    ]
    units = [
        re.search(r"^ExecStart=\S*/(fedprofile .*)$", u.read_text(), re.M)[1]
        for u in PARTNERS.glob("services/*.service")
    ]  # type: ignore[index]
    compose = yaml.safe_load((PARTNERS / "services" / "compose.yaml").read_text())
    return [*typed, *inline, *units, shlex.join(compose["services"]["node"]["command"])]


def setting(unit: Path, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.M)
    return str(value)


UNITS = sorted((PARTNERS / "services").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.name)
def test_a_unit_is_systemds_and_starts_what_is_installed(unit: Path, tmp_path: Path) -> None:
    program, noun, verb, home, *_ = setting(unit, "ExecStart").split()
    assert (program, verb) == ("/opt/fedprofile/bin/fedprofile", "start")
    assert noun in unit.name
    assert setting(unit, "ReadWritePaths") == home, "all else is read-only to it"
    assert int(setting(unit, "RestartPreventExitStatus")) == UsageError("a home that is not ready").exit_code
    assert int(setting(unit, "TimeoutStopSec")) > 40, "stopping may take 40 s"
    if credential := re.search(r"LoadCredentialEncrypted=([a-z-]+):", unit.read_text()):
        assert credential[1] == CREDENTIAL
    if shutil.which("systemd-analyze"):
        (tmp_path / "fedprofile").write_text("#!/bin/sh\n")
        (tmp_path / "fedprofile").chmod(0o755)
        here = tmp_path / unit.name
        here.write_text(unit.read_text().replace(program, str(tmp_path / "fedprofile")))
        told = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)
        assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_the_compose_file_builds_what_the_bundle_holds_and_mounts_the_home_that_it_starts() -> None:
    (node,) = yaml.safe_load((PARTNERS / "services" / "compose.yaml").read_text())["services"].values()
    page, docker = (PARTNERS / "README.md").read_text(), node["build"]["dockerfile_inline"].splitlines()
    steps = [line.split(maxsplit=1) for line in docker]
    assert [word for word, _ in steps] == ["FROM", "COPY", "RUN", "RUN", "USER"]
    python = re.fullmatch(r"python:([0-9.]+)-slim", steps[0][1])[1]  # type: ignore[index]
    needed = ConfigParser()
    needed.read(PARTNERS.parent / "setup.cfg")
    assert SpecifierSet(needed["options"]["python_requires"]).contains(python)
    bundle, inside = steps[1][1].split()
    assert f"$ fedprofile node bundle {bundle}\n" in page
    (told,) = re.findall(r"bin/(pip install .*)", _INSTALL)
    assert steps[2][1] == f"cd {inside} && {told} && rm -r {inside}"
    uid, user = re.fullmatch(r"useradd --uid (\d+) (\w+)", steps[3][1]).groups()  # type: ignore[union-attr]
    assert steps[4][1] == user
    assert f"chown -R {uid} HOME" in (PARTNERS / "services" / "compose.yaml").read_text()
    assert [v.partition(":")[2] for v in node["volumes"]] == node["command"][-1:]
    assert node["environment"] == {name: f"${{{name}:-}}" for name in ("HTTPS_PROXY", "NO_PROXY")}
    assert all(f"`{name}`" in page for name in node["environment"])
    assert (node["read_only"], node["tmpfs"], node["cap_drop"]) == (True, ["/tmp"], ["ALL"])


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one(command: str) -> None:
    """They are typed for real in tests/deployment/test_commands.py."""
    parser, words = _parser(), shlex.split(command, comments=True)
    if words[0] in ("pip", "python3"):
        return
    assert words[0] == "fedprofile"
    if "--help" not in words:
        parser.parse_args(words[1:])


def test_the_security_page_lists_every_message() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", (PARTNERS / "security.md").read_text(), re.M))
    assert listed == MEANING
