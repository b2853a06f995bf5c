"""The watch on a real champion: typed, with the bundle's own reference and with the label owner's home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from desk import Desk, actor, small_model
from office import key

from fedprofile.cli.main import main
from fedprofile.label_owner.judging import SKIPPED, judge_tasks
from fedprofile.registry.bundle import write_bundle
from fedprofile.registry.describing import Origin, describe_model
from fedprofile.registry.promote import approve, promote


@pytest.fixture
def champion(finished: Any, fused: Any, tmp_path: Path) -> Any:
    """(desk, world): a registry whose champion is the bundle of ``finished``; ``bare``: without its reference."""

    def make(bare: bool = False) -> Any:
        world = finished[0]
        home, plan = world.home("bank"), world.job.plan
        tasks = judge_tasks(fused, None, plan.tasks, 20, 0, SKIPPED)
        meta = describe_model(home, plan, world.job.roster, fused, tasks, Origin({}))
        if bare:
            del meta["reference"]
        desk = Desk(tmp_path, fused.fused)
        write_bundle(tmp_path / "made", fused.fused, meta, {}, key("li"))
        manifest = desk.gate(tmp_path / "made")
        for who, role in (("wang", "validator"), ("zhao", "approver")):
            approve(desk.registry, actor(who), manifest, role, "approve", 14)
        promote(desk.registry, actor("chen"), manifest)
        return desk, world

    return make


def _live(world: Any, file: Path, **changed: Any) -> Path:
    frame = pl.DataFrame({c: v.tolist() for c, v in world.federation.tables["bank"].columns.items()}, nan_to_null=True)
    frame.with_columns(**changed).write_csv(file)
    return file


def _watch(desk: Desk, table: Path, *more: str) -> int:
    return main(["registry", "watch", "--registry", str(desk.registry.path), "--table", str(table), *more])


def test_the_same_customers_are_steady_and_richer_ones_are_not(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion()
    advice = desk.registry.path / "recommendation.json"
    assert _watch(desk, _live(world, tmp_path / "live.csv")) == 0
    assert "nothing has moved" in capsys.readouterr().out
    assert not advice.exists()

    rich = _live(world, tmp_path / "rich.csv", balance_cny=pl.col("balance_cny") * 50, city_class=pl.lit("overseas"))
    assert _watch(desk, rich, "--out", str(tmp_path / "out"), "--json") == 3
    said = json.loads(capsys.readouterr().out)
    moved = {f"{f['shift']['kind']}/{f['shift']['subject']}" for f in said["findings"] if f["moved"]}
    assert {"input_psi/balance_cny", "unseen/city_class"} <= moved
    assert not any("age" in name for name in moved)
    held = json.loads(advice.read_bytes())
    assert (held["champion"], held["evidence"]) == (desk.state.champion, said["evidence"])
    assert len(held["reasons"]) == len(moved)
    kept = desk.registry.path / "watch" / held["evidence"]
    for name in ("watch.json", "watch.html"):
        text = (kept / name).read_text()
        assert (tmp_path / "out" / name).read_text() == text
        assert "overseas" not in text
        assert "EXAMPLE" not in text
        assert "<script" not in text

    status = ["registry", "status", "--registry", str(desk.registry.path)]
    assert main(status) == 0
    assert "a retraining is recommended" in capsys.readouterr().out
    desk.model = small_model()
    desk.champion("next")
    assert main(status) == 0
    assert "a retraining is recommended" not in capsys.readouterr().out


def test_a_bundle_without_a_reference_needs_its_run_s_home(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion(bare=True)
    live = _live(world, tmp_path / "live.csv")
    assert _watch(desk, live) == 2
    assert "--home HOME" in capsys.readouterr().err
    assert _watch(desk, live, "--home", str(world.home("bank").path)) == 0
    assert "the label owner's home" in capsys.readouterr().out


def test_a_table_that_cannot_be_judged_is_refused_by_name(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion()
    frame = pl.read_csv(_live(world, tmp_path / "live.csv"))
    frame.drop("age").write_csv(tmp_path / "less.csv")
    frame.head(199).write_csv(tmp_path / "few.csv")
    for name, words in (("less.csv", "column 'age'"), ("few.csv", "199, of which 200"), ("none.csv", "is missing")):
        assert _watch(desk, tmp_path / name) in (1, 2)
        assert words in capsys.readouterr().err
    assert not (desk.registry.path / "watch").exists()


def test_there_is_nothing_to_watch_without_a_champion(fused: Any, tmp_path: Path, capsys: Any) -> None:
    assert _watch(Desk(tmp_path, fused.fused), tmp_path / "live.csv") == 2
    assert "no champion" in capsys.readouterr().err
