"""`fedprofile node map|check` as the partner's engineer uses them; whatever the table holds, no cell is printed."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprofile.cli.node_table import add_verbs
from fedprofile.data.contract_file import read_contract, shipped_contract
from fedprofile.errors import FedprofileError
from fedprofile.node.home import NodeConfig, NodeHome

Run = Callable[..., tuple[int, str, str]]
CONTRACT = {
    "version": 1,
    "role": "shop",
    "purpose": "customer tiering and product propensity",
    "id": {"name": "customer"},
    "columns": {
        "Spend": {"type": "number", "unit": "CNY", "range": [0, 1e6], "missing": 0.5, "grade": 3, "class": "C2"},
        "City": {"type": "category", "codes": ["Beijing", "Shanghai"], "missing": 0.5, "grade": 2, "class": "C1"},
        "Remark": {"type": "category", "missing": 1, "grade": 2, "class": "C1"},
        "Updated": {"type": "date", "missing": 1, "grade": 2, "class": "C1"},
    },
    "limits": {"min_rows": 100},
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, output and errors of `fedprofile node …`, with main's way of showing an error."""

    def node(*words: str | Path) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser(prog="fedprofile node")
        add_verbs(parser.add_subparsers(required=True))
        args = parser.parse_args([str(w) for w in words])
        capsys.readouterr()
        try:
            code, error = int(args.run(args)), ""
        except FedprofileError as e:
            code, error = e.exit_code, str(e)
        shown = capsys.readouterr()
        return code, shown.out, shown.err + error

    return node


def write(home: Path, frame: pl.DataFrame) -> Path:
    home.mkdir(exist_ok=True)
    (home / "contract.yaml").write_text(yaml.safe_dump(CONTRACT, sort_keys=False))
    (home / "source.yaml").write_text("csv: t.csv\n")
    frame.write_csv(home / "t.csv")
    return home


def customers(n: int = 200) -> pl.DataFrame:
    draw = np.random.default_rng(2)
    return pl.DataFrame(
        {
            "customer_no": [f"K{i}" for i in range(n)],
            "spend_wan": draw.uniform(0, 9, n).round(4),
            "city": draw.choice(["beijing", "SHANGHAI"], n),
            "updated": ["2026-11-01"] * n,
        }
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return write(tmp_path / "node", customers())


def test_from_a_table_to_a_frozen_snapshot(home: Path, run: Run) -> None:
    code, out, err = run("check", home)
    assert (code, out) == (1, "")
    assert "map.yaml: the file is missing" in err
    assert "--suggest" in err
    code, out, _ = run("map", home, "--suggest")
    assert code == 0
    assert "3 of 4 columns mapped, id from 'customer_no'" in out
    assert "Spend: the name says 10k CNY" in out
    assert "map.yaml is there already" in run("map", home, "--suggest")[2]
    code, out, _ = run("map", home)
    assert code == 0
    assert re.search(r"^Spend +spend_wan +number +3, C2 +10k CNY -> CNY$", out, re.M)
    assert re.search(r"^Remark +\(absent\)", out, re.M)
    code, out, _ = run("check", home)
    assert code == 0
    assert "rows       200 read, 200 kept, 0 quarantined\n" in out
    assert "drift      nothing to compare with yet" in out
    assert out.endswith("add --freeze.\n")
    assert not (home / "table.parquet").exists()
    code, out, _ = run("check", home, "--freeze")
    assert code == 0
    assert out.endswith("Frozen: runs read this table from now on.\n")
    assert (home / "table.parquet").exists()
    assert "last time 200 kept on" in run("check", home)[1]


def test_a_limit_ends_in_1_and_is_named(home: Path, run: Run) -> None:
    run("map", home, "--suggest")
    run("check", home, "--freeze")
    write(home, customers().with_columns(spend_wan=pl.lit("1,000")))
    code, out, _ = run("check", home, "--freeze")
    assert code == 1
    assert re.search(r"^ +200  thousands_separator +Spend  +write `thousands: true`", out, re.M)
    assert "stops: quarantined is 1, above the contract's 0.05" in out
    assert "stops: min_rows is 0, below the contract's 100" in out
    assert "Frozen" not in out
    code, out, _ = run("check", home, "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["frozen"]) == (1, False, False)
    assert report["rows"] == {"read": 200, "kept": 0, "quarantined": 200}


def test_drift_is_accepted_by_name(home: Path, run: Run) -> None:
    run("map", home, "--suggest")
    run("check", home, "--freeze")
    write(home, customers().with_columns(pl.col("spend_wan") + 50))
    code, out, _ = run("check", home)
    assert code == 1
    assert "stops: drift of Spend" in out
    assert run("check", home, "--freeze", "--accept-drift")[0] == 0
    assert run("check", home)[0] == 0


def test_a_home_gets_the_shipped_contract_of_its_role(tmp_path: Path, run: Run) -> None:
    NodeHome.create(tmp_path, NodeConfig("office", "tax", "bank", "own", "simulated"))
    (tmp_path / "source.yaml").write_text("csv: t.csv\n")
    pl.DataFrame({"SEQN": [f"{i}" for i in range(20000, 20300)], "household_size": ["2"] * 300}).write_csv(
        tmp_path / "t.csv"
    )
    assert "1 of 6 columns mapped, id from 'SEQN'" in run("map", tmp_path, "--suggest")[1]
    assert read_contract(tmp_path / "contract.yaml").root == shipped_contract("tax").root
    other = tmp_path / "other"
    NodeHome.create(other, NodeConfig("insurer", "insurer", "bank", "own", "simulated"))
    assert "another role writes its own" in run("map", other, "--suggest")[2].lower()


def test_json_of_every_verb(home: Path, run: Run) -> None:
    code, out, _ = run("check", home, "--json")
    assert code == 1
    assert json.loads(out)["file"] == "map.yaml"
    drafted = json.loads(run("map", home, "--suggest", "--json")[1])
    assert drafted["mapped"] == 3
    shown = json.loads(run("map", home, "--json")[1])
    assert [c["from"] for c in shown["columns"]] == ["spend_wan", "city", "", "updated"]


MARK = "Zq"
CELL = st.one_of(
    st.none(),
    st.text(max_size=12).map(lambda t: MARK + t),
    st.integers(10**12, 10**15).map(str),
    st.sampled_from(["=" + MARK, f'"{MARK}', f"1,{MARK}", "Beijing", "12.5", "2026-11-01", "１２３４５６７８９"]),
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELL, CELL, CELL, CELL, CELL), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_no_cell_is_ever_printed(run: Run, rows: list[tuple[Any, ...]], parquet: bool, frozen: bool) -> None:
    names = ["customer", "spend", "city", "remark", "updated"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    with tempfile.TemporaryDirectory() as folder:
        home = write(Path(folder), frame)
        if parquet:
            frame.write_parquet(home / "t.parquet")
            (home / "source.yaml").write_text("parquet: t.parquet\n")
        limits = {"quarantined": 1, "min_rows": 1, "quality": 0} if frozen else {}
        (home / "contract.yaml").write_text(yaml.safe_dump({**CONTRACT, "limits": limits}, sort_keys=False))
        said = run("map", home, "--suggest")
        columns = {c: {"from": c.lower()} for c in CONTRACT["columns"]}
        (home / "map.yaml").write_text(yaml.safe_dump({"id": "customer", "columns": columns}))
        said += run("map", home) + run("check", home) + run("check", home, "--json")
        said += run("check", home, "--freeze")
        record = home / "intake.json"
        text = "\n".join(str(s) for s in said) + (record.read_text() if record.exists() else "")
    # What the contract itself says, a date of today and short counts are no secrets; every other cell would be.
    for cell in {c for row in rows for c in row if c is not None} - {"Beijing", "12.5", "2026-11-01"}:
        assert cell not in text
        assert MARK not in text
