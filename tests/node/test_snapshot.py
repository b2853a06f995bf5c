"""The snapshot is compared with what was checked, and with what this run has read, before a row is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedprofile.errors import DataError
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.snapshot import held_table, table_sha256
from fedprofile.node.source import write_table
from fedprofile.types import Table

CONFIG = NodeConfig("shop", "shop", "bank", "own", "simulated")


def put(home: NodeHome, spend: float) -> None:
    write_table(Table(np.array(["A", "B"]), {"spend": np.array([spend, 2.0])}), home.path / "table.parquet")


def check(home: NodeHome) -> None:
    digest = table_sha256(home.path / "table.parquet")
    record = {"table": {"sha256": digest}, "rows": {"kept": 2}, "read_on": "2026-11-26"}
    (home.path / "intake.json").write_text(json.dumps(record))


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    home = NodeHome.create(tmp_path, CONFIG)
    put(home, 1.0)
    return home


def test_a_simulated_home_has_nothing_to_compare_with(home: NodeHome) -> None:
    assert held_table(home) == home.path / "table.parquet"
    put(home, 9.0)
    assert held_table(home) == home.path / "table.parquet"


def test_a_table_that_was_changed_underneath_is_refused(home: NodeHome) -> None:
    check(home)
    assert held_table(home) == home.path / "table.parquet"
    put(home, 9.0)
    with pytest.raises(DataError, match="not the one that was checked"):
        held_table(home)
    (home.path / "table.parquet").unlink()
    with pytest.raises(DataError, match="the snapshot is missing"):
        held_table(home)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"table": 1}'])
def test_a_damaged_record_is_an_error_not_a_simulation(text: str, home: NodeHome) -> None:
    (home.path / "intake.json").write_text(text)
    with pytest.raises(DataError, match="damaged"):
        held_table(home)


def test_a_snapshot_may_not_change_in_the_middle_of_a_run(home: NodeHome) -> None:
    check(home)
    held_table(home)
    put(home, 9.0)
    check(home)
    with pytest.raises(DataError, match="while a run was under way"):
        held_table(home)
    home.clear_run()
    assert held_table(home) == home.path / "table.parquet"
