"""What partners read is true: blocks are read by the code that they describe, commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from fedprofile.cli.main import _parser
from fedprofile.data.contract_file import parse_contract, shipped_contract
from fedprofile.data.readers.source_file import parse_source
from fedprofile.data.table_map import parse_map
from fedprofile.messages import MEANING

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
