"""partners/data.md: every YAML block is read by the code that it describes."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from fedprofile.data.contract_file import parse_contract, shipped_contract
from fedprofile.data.readers.source_file import parse_source
from fedprofile.data.table_map import parse_map

PAGE = (Path(__file__).parents[1] / "partners" / "data.md").read_text(encoding="utf-8")


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
