"""Intake of a home: judged, frozen, private; a limit stops it and the last snapshot stays."""

from __future__ import annotations

import json
import stat
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from fedprofile.errors import DataError
from fedprofile.node.intake import Intake, freeze, look, read_settings
from fedprofile.node.snapshot import read_record
from fedprofile.node.source import write_table
from fedprofile.types import Labels, Table

TODAY = date(2026, 11, 26)
CONTRACT = {
    "version": 1,
    "role": "shop",
    "purpose": "customer tiering and product propensity",
    "id": {"name": "customer", "pattern": "K[0-9]+"},
    "columns": {
        "spend": {"type": "number", "unit": "CNY", "range": [0, 1e6], "missing": 0.2, "grade": 3, "class": "C2"},
        "city": {"type": "category", "codes": ["x", "y"], "grade": 2, "class": "C1"},
        "seen": {"type": "date", "max_age_days": 400, "missing": 1, "grade": 2, "class": "C1"},
    },
    "limits": {"min_rows": 50},
}
MAP = {
    "id": "no",
    "columns": {"spend": {"from": "amount", "unit": "fen"}, "city": {"from": "city"}, "seen": {"from": "seen"}},
}
PRIVATE = ("table.parquet", "intake.json", "profile.json", "quarantine.json")


def table(n: int = 400, seed: int = 1, mean: float = 5.0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "no": [f"K{i}" for i in range(n)],
            "amount": draw.lognormal(mean, 0.5, n).round(0),
            "city": draw.choice(["x", "y"], n),
            "seen": [date(2026, 11, 1)] * n,
            "remark": ["SECRET77"] * n,
        }
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(CONTRACT, sort_keys=False))
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(MAP))
    (tmp_path / "source.yaml").write_text("csv: table.csv\n")
    table().write_csv(tmp_path / "table.csv")
    return tmp_path


def again(home: Path, frame: pl.DataFrame) -> Intake:
    frame.write_csv(home / "table.csv")
    return look(home, TODAY)


def limits(intake: Intake) -> list[str]:
    return [f"{s.limit} {s.column}".strip() for s in intake.stops]


def test_looking_writes_nothing(home: Path) -> None:
    before = sorted(p.name for p in home.iterdir())
    intake = look(home, TODAY)
    assert intake.stops == ()
    assert sorted(p.name for p in home.iterdir()) == before


def test_a_snapshot_is_what_runs_read_and_private(home: Path) -> None:
    record = freeze(home, look(home, TODAY))
    assert record == read_record(home)
    assert record["rows"] == {"read": 400, "kept": 400, "quarantined": 0}
    assert record["table"]["categorical"] == ["city"]
    assert record["quality"]["figure"] == 1
    stored = pl.read_parquet(home / "table.parquet")
    assert stored.columns == ["__id__", "spend", "city"]
    assert stored["__id__"].is_sorted()
    assert stored["spend"].sum() == pytest.approx(table()["amount"].sum() / 100)
    for name in PRIVATE:
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert not list(home.glob(".new-*"))
    assert "SECRET77" not in "".join((home / n).read_text() for n in PRIVATE if n.endswith("json"))


def test_equal_content_gives_an_equal_snapshot_whatever_the_order(home: Path) -> None:
    first = freeze(home, look(home, TODAY))["table"]["sha256"]
    shuffled = again(home, table().sample(fraction=1, shuffle=True, seed=3))
    assert freeze(home, shuffled)["table"]["sha256"] == first


def test_quarantined_positions_stay_in_the_home(home: Path) -> None:
    frame = table().with_columns(city=pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("z")).otherwise("city"))
    record = freeze(home, again(home, frame))
    assert record["quarantine"] == [{"code": "unknown_code", "column": "city", "rows": 1}]
    assert json.loads((home / "quarantine.json").read_text()) == {"unknown_code city": [7]}
    assert "K7" not in pl.read_parquet(home / "table.parquet")["__id__"].to_list()


@pytest.mark.parametrize(
    ("spoiled", "limit"),
    [
        (table().with_columns(city=pl.when(pl.int_range(pl.len()) < 60).then(pl.lit("z")).otherwise("city")),
         ["quarantined"]),
        (table(40), ["min_rows"]),
        (table().with_columns(amount=pl.when(pl.int_range(pl.len()) >= 100).then("amount")), ["missing spend"]),
        (pl.concat([table(), table().with_columns(city=pl.lit("x"))]), ["quarantined", "quality"]),
    ],
)  # fmt: skip
def test_a_limit_stops_it_and_the_last_snapshot_stays(spoiled: pl.DataFrame, limit: list[str], home: Path) -> None:
    held = freeze(home, look(home, TODAY))
    intake = again(home, spoiled)
    assert [x for x in limits(intake) if not x.startswith("drift")][: len(limit)] == limit
    with pytest.raises(DataError, match="limits of the contract stop it"):
        freeze(home, intake, accept_drift=True)
    assert read_record(home) == held


def test_drift_stops_until_it_is_accepted(home: Path) -> None:
    freeze(home, look(home, TODAY))
    assert limits(again(home, table(seed=2))) == []
    moved = again(home, table(seed=2, mean=7.0))
    assert limits(moved) == ["drift spend"]
    with pytest.raises(DataError, match=r"1 limits of the contract stop it \(drift\)"):
        freeze(home, moved)
    assert freeze(home, moved, accept_drift=True)["accepted_drift"] is True
    assert limits(again(home, table(seed=3, mean=7.0))) == []


def test_values_that_never_change_lower_the_quality_after_the_days_of_the_contract(home: Path) -> None:
    moving = {**CONTRACT["columns"], "spend": {**CONTRACT["columns"]["spend"], "changes_days": 30}}
    (home / "contract.yaml").write_text(yaml.safe_dump({**CONTRACT, "columns": moving}, sort_keys=False))

    def after(days: int, frame: pl.DataFrame) -> tuple[float | None, dict[str, str]]:
        frame.write_csv(home / "table.csv")
        record = freeze(home, look(home, TODAY + timedelta(days=days)))
        return record["quality"]["variation"], record["unchanged_since"]

    longer = pl.concat([table(), table(50).with_columns(no="N" + pl.col("no"))]).with_columns(
        no=pl.col("no").str.replace("NK", "K9")
    )
    assert after(0, table()) == (1, {})
    assert after(20, table().sample(fraction=1, shuffle=True, seed=1)) == (1, {"spend": "2026-11-26"})
    with pytest.raises(DataError, match=r"\(quality\)"):  # two features, one frozen: 0.5
        after(40, longer)
    one_moved = table().with_columns(amount=pl.when(pl.col("no") == "K5").then(pl.lit(7.0)).otherwise("amount"))
    assert after(40, one_moved) == (1, {})
    assert after(60, one_moved) == (1, {"spend": "2027-01-05"})


def test_another_contract_starts_drift_anew(home: Path) -> None:
    freeze(home, look(home, TODAY))
    (home / "contract.yaml").write_text(yaml.safe_dump({**CONTRACT, "version": 2}, sort_keys=False))
    assert again(home, table(mean=7.0)).drift == {}


def test_ids_that_are_no_ids_as_a_whole_are_refused(home: Path) -> None:
    open_ = {**CONTRACT, "id": {"name": "customer"}}
    (home / "contract.yaml").write_text(yaml.safe_dump(open_, sort_keys=False))
    mixed = again(home, table().with_columns(no=pl.int_range(pl.len()).cast(pl.String) + pl.lit(".5")))
    with pytest.raises(DataError, match="fractional"):
        freeze(home, mixed)
    assert not (home / "table.parquet").exists()


def test_a_snapshot_may_be_stored_in_another_way(home: Path) -> None:
    def sealed(table: Table, path: Path) -> None:
        write_table(table, path)
        path.with_name("table.parquet.sealed.json").write_text("{}")

    freeze(home, look(home, TODAY), write=sealed)
    assert stat.S_IMODE((home / "table.parquet.sealed.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["contract.yaml", "map.yaml", "source.yaml"])
def test_a_missing_file_is_named(name: str, home: Path) -> None:
    (home / name).unlink()
    with pytest.raises(DataError, match="the file is missing") as caught:
        read_settings(home)
    assert caught.value.file == name


def test_damaged_files_of_its_own_are_named(home: Path) -> None:
    freeze(home, look(home, TODAY))
    (home / "profile.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        look(home, TODAY)
    (home / "intake.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_record(home)


def test_a_run_on_snapshots_equals_the_run_on_dealt_tables(world, finished_once) -> None:
    from fedprofile.data.writing import _frame
    from fedprofile.label_owner.home import write_owner

    for node in world.dealt:
        home = world.home(node.id)
        frame = _frame(node.table, "id").sample(fraction=1, shuffle=True, seed=5)
        columns = {
            c: {
                "type": "category" if c in node.table.categorical else "number",
                "missing": 1,
                "grade": 3,
                "class": "C2",
            }
            for c in node.table.columns
        }
        contract = {**CONTRACT, "id": {"name": "id"}, "columns": columns, "limits": {"min_rows": 1}}
        (home.path / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
        (home.path / "map.yaml").write_text(yaml.safe_dump({"id": "id", "columns": {c: {"from": c} for c in columns}}))
        (home.path / "source.yaml").write_text("parquet: own.parquet\n")
        frame.write_parquet(home.path / "own.parquet")
        record = freeze(home.path, look(home.path, TODAY))
        assert record["rows"]["kept"] == len(node.table)
        assert record["table"]["categorical"] == list(home.config.categorical)
        if node.id == "bank":
            # The owner's labels lie in the order of its table, which the snapshot has changed.
            order, labels = np.argsort(node.table.ids, kind="stable"), world.federation.labels
            moved = {task: values[order] for task, values in labels.values.items()}
            write_owner(home.path, Labels(node.table.ids[order], moved), world.config.data.fold)
    _, outcome = finished_once
    again = world.drive()
    assert again.shared.keys() == outcome.shared.keys()
    assert all(np.array_equal(again.shared[k], v) for k, v in outcome.shared.items())
