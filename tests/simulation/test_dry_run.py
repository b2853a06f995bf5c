"""A node's training against an invented federation: the real messages, and a home that stays as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from fedprofile.deployment.label_owner import give_labels
from fedprofile.deployment.node import change_policy, make_node
from fedprofile.errors import NodeFailed, UsageError
from fedprofile.governance.audit import Sent
from fedprofile.messages import UPWARD
from fedprofile.node.audit import record
from fedprofile.node.home import NodeHome
from fedprofile.node.intake import freeze, look
from fedprofile.simulation.dry_run import dry_run

ROWS = 700


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return made(tmp_path, "clinic-a", "medical")


def made(tmp_path: Path, party: str, role: str) -> Path:
    columns = {"visits": {"type": "number"}, "ward": {"type": "category"}}
    graded = {n: {**c, "missing": 1, "grade": 3, "class": "C2"} for n, c in columns.items()}
    contract = {"version": 1, "role": role, "purpose": "p", "id": {"name": "id"}, "columns": graded}
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(contract))
    draw = np.random.default_rng(1)
    ids = [f"K{i:04}" for i in range(ROWS)]
    table = {"id": ids, "visits": draw.integers(9, size=ROWS), "ward": draw.choice(["a", "b"], ROWS)}
    pl.DataFrame(table).write_csv(tmp_path / "t.csv")
    home = tmp_path / party
    make_node(home, party, role, "", tmp_path / "contract.yaml", "simulated")
    (home / "source.yaml").write_text(f"csv: {tmp_path}/t.csv\n")
    (home / "map.yaml").write_text("{id: id, columns: {visits: {from: visits}, ward: {from: ward}}}\n")
    freeze(home, look(home))
    return home


def marks(home: Path) -> dict[str, str]:
    return {
        p.relative_to(home).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in home.rglob("*")
        if p.is_file()
    }


def test_what_would_leave_is_listed_and_the_home_stays_as_it_was(home: Path) -> None:
    killed = home / "dry-run-killed"
    (killed / "own").mkdir(parents=True)
    # an upload that this node has sent: its audit log names it, and the twin has not sent it
    record(NodeHome(home), Sent("uploads", "round", 9, 1, run="ab", sums=(("update", "", 1, 0),)))
    before = marks(home)
    done = dry_run(NodeHome(home))
    assert (done.parties[0], set(done.parties[1:]), done.customers) == ("clinic-a", {"bank", "ecommerce", "tax"}, ROWS)
    types = [s.type for s in done.sent]
    assert types[:3] == ["identity", "approval", "key-ad"]
    assert types[-1] == "finished"
    assert types.count("uploads") >= 2
    assert set(types) <= set(UPWARD)
    assert done.bytes == sum(s.bytes for s in done.sent)
    assert marks(home) == before
    assert [p.name for p in home.iterdir() if p.name.startswith("dry-run-")] == []


def test_the_label_owner_sees_its_releases(tmp_path: Path) -> None:
    home = made(tmp_path, "bank", "bank")
    with pytest.raises(UsageError, match="no labels yet"):
        dry_run(NodeHome(home))
    labels = pl.DataFrame({"id": [f"K{i:04}" for i in range(ROWS)], "tier": [i % 3 for i in range(ROWS)]})
    labels.write_csv(tmp_path / "labels.csv")
    give_labels(NodeHome(home), tmp_path / "labels.csv", "id", {"tier": "ordinal"}, 0)
    assert "labels" in [s.type for s in dry_run(NodeHome(home)).sent]


def test_what_its_own_policy_refuses_is_refused_here_as_well(home: Path) -> None:
    change_policy(NodeHome(home), ["clip=0.0001"])
    with pytest.raises(NodeFailed, match="clinic-a"):
        dry_run(NodeHome(home))
    assert [p.name for p in home.iterdir() if p.name.startswith("dry-run-")] == []


def test_a_node_without_a_frozen_table_is_told_what_to_do(home: Path) -> None:
    (home / "table.parquet").unlink()
    with pytest.raises(UsageError, match="--freeze"):
        dry_run(NodeHome(home))
