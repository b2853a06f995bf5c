"""What a check adds to the judged table: live consents and the last alignment, where the folder is a node's home."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.intake import freeze, look
from fedprofile.node.spine import write_spine
from fedprofile.node.table_check import live_consents, table_report
from fedprofile.types import Spine

TODAY = date(2026, 11, 26)


@dataclass
class Some:
    """A permit for one use and one customer."""

    def allowed(self, subjects, use, at):
        assert at.tzinfo is not None
        return (subjects == "K1") & (use != "score")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    columns = {"spend": {"type": "number", "grade": 3, "class": "C2"}}
    body = {"version": 1, "role": "shop", "purpose": "p", "id": {"name": "no"}, "columns": columns}
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump({**body, "limits": {"min_rows": 3}}))
    (tmp_path / "map.yaml").write_text('{id: "no", columns: {spend: {from: spend}}}')
    (tmp_path / "source.yaml").write_text("csv: t.csv")
    pl.DataFrame({"no": ["K1", "K2", "K3", "K3"], "spend": [1, 2, 3, 3]}).write_csv(tmp_path / "t.csv")
    return tmp_path


def test_consents_are_counted_by_use() -> None:
    found = live_consents(np.array(["K1", "K2"]), Some(), datetime.now(UTC))
    assert found == {"customers": 2, "alignment": 1, "training": 1, "label_release": 1, "own": 1, "score": 0}


def test_a_folder_that_is_no_home_yet_has_neither_consents_nor_overlap(home: Path) -> None:
    report = table_report(home, look(home, TODAY))
    assert (report["consent"], report["overlap"], report["last"]) == (None, None, None)
    assert report["ok"] is False  # a quarter of the rows is a repeat
    assert report["stops"][0]["limit"] == "quarantined"


def test_a_home_shows_consents_the_last_snapshot_and_the_last_alignment(home: Path) -> None:
    NodeHome.create(home, NodeConfig("shop", "shop", "bank", "own", "simulated"))
    pl.DataFrame({"no": ["K1", "K2", "K3"], "spend": [1, 2, 3]}).write_csv(home / "t.csv")
    freeze(home, look(home, TODAY))
    spine = Spine(9, np.array([0, 2]), np.array([4, 5]), np.array([True, True]), bytes(32))
    write_spine(NodeHome(home), spine)
    report = table_report(home, look(home, TODAY))
    assert report["ok"] is True
    assert report["consent"] == {"source": "simulated", "customers": 3, "alignment": 3, "training": 3,
                                 "label_release": 3, "own": 3, "score": 3}  # fmt: skip
    assert report["overlap"] == {"aligned": 2, "spine": 9}
    assert report["last"] == {"read_on": "2026-11-26", "rows": 3}
