"""The watch on a real champion: typed, with the bundle's own reference and with the label owner's home."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from desk import Desk, actor, small_model
from office import key

from fedprofile.acknowledging import Acknowledgement
from fedprofile.cli.main import main
from fedprofile.errors import UsageError
from fedprofile.governance.people import ROOT
from fedprofile.label_owner.judging import SKIPPED, judge_tasks
from fedprofile.node.encoders import KEPT, keep_acknowledged
from fedprofile.registry.bundle import open_bundle, write_bundle
from fedprofile.registry.describing import Origin, describe_model
from fedprofile.registry.promote import approve, promote
from fedprofile.registry.watching import objection, read_watch_settings, signed_advice, standing_advice, watch


@pytest.fixture
def champion(finished: Any, fused: Any, tmp_path: Path) -> Any:
    """(desk, world): a registry whose champion is the bundle of ``finished``; ``bare``: without its reference."""

    def make(bare: bool = False, **facts: Any) -> Any:
        world = finished[0]
        home, plan = world.home("bank"), world.job.plan
        tasks = judge_tasks(fused, None, plan.tasks, 20, 0, SKIPPED)
        meta = describe_model(home, plan, world.job.roster, fused, tasks, Origin({})) | facts
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
    assert {"input_psi/balance_cny", "unseen/city_class", "score_psi/tier"} <= moved
    assert not any("age" in name for name in moved)
    held = json.loads(advice.read_bytes())
    assert (held["person"], held["signature"]) == ("", "")
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
    said = capsys.readouterr().out
    assert "a retraining is recommended" in said
    assert f"{len(moved)} shifts, unsigned" in said
    desk.model = small_model()
    desk.champion("next")
    assert main(status) == 0
    assert "a retraining is recommended" not in capsys.readouterr().out


RICH = {"balance_cny": pl.col("balance_cny") * 50}
NO_CONFIG = "holds no configuration"
"""What `retrain` says next of the bundle of ``champion``: the recommendation was taken."""


def _signs(who: str, folder: Path) -> list[str]:
    file = folder / f"{who}.key"
    file.write_bytes(who.encode().ljust(32, b"."))
    file.chmod(0o600)
    return ["--as", who, "--key", str(file)]


def test_a_signed_recommendation_is_checked_by_who_follows_it(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion()
    rich, out = _live(world, tmp_path / "rich.csv", **RICH), tmp_path / "out"
    assert _watch(desk, rich, *_signs("chen", tmp_path), "--out", str(out)) == 3
    assert "is signed by chen" in capsys.readouterr().out
    standing = desk.registry.path / "recommendation.json"
    signed = standing.read_bytes()
    assert (out / "recommendation.json").read_bytes() == signed
    assert json.loads(signed)["table"] == hashlib.sha256(rich.read_bytes()).hexdigest()
    assert main(["registry", "status", "--json", "--registry", str(desk.registry.path)]) == 0
    told = json.loads(capsys.readouterr().out)["retrain"]
    assert (told["person"], told["objection"]) == ("chen", "")

    def retrain(file: Path) -> str:
        because = ["--because", str(file), *_signs("wang", tmp_path), "--registry", str(desk.registry.path)]
        assert main(["registry", "retrain", *because, f"run.dir={tmp_path / 'next'}"]) in (1, 2)
        return str(capsys.readouterr().err)

    assert NO_CONFIG in retrain(standing)
    # unsigned, the nightly watch replaces nothing that counts
    assert _watch(desk, rich) == 3
    assert "is unsigned" in capsys.readouterr().out
    assert standing.read_bytes() == signed

    (out / "altered.json").write_bytes(signed.replace(b"input_psi", b"score_psi"))
    (out / "unsigned.json").write_text(json.dumps(json.loads(signed) | {"person": "", "signature": ""}))
    (out / "nonsense.json").write_text("[1")
    reasons = {
        "altered": "not signed by this person",
        "unsigned": "nobody signed it",
        "nonsense": "not a recommendation",
    }
    for name, why in {**reasons, "nowhere": "missing"}.items():
        assert why in retrain(out / f"{name}.json"), name
    kept = desk.registry.path / "watch" / json.loads(signed)["evidence"] / "watch.json"
    kept.write_bytes(kept.read_bytes() + b" ")
    assert "was changed" in retrain(standing)
    assert NO_CONFIG in retrain(out / "recommendation.json"), "the evidence beside it is whole"


def test_a_watch_is_signed_by_the_own_key_in_the_right_role(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion()
    live = _live(world, tmp_path / "rich.csv", **RICH)
    mine = _signs("wang", tmp_path)
    for more, words in (
        (_signs("zhao", tmp_path), "not validator or operator"),
        (_signs("li", tmp_path), "not validator or operator"),
        (_signs("eve", tmp_path), "not in people.json"),
        (["--as", "chen", *mine[2:]], "not the key of 'chen'"),
        (mine[:2], "go together"),
        (mine[2:], "go together"),
    ):
        assert _watch(desk, live, *more) == 2
        assert words in capsys.readouterr().err
    assert not (desk.registry.path / "watch").exists()


def test_what_a_person_signed_ends_with_that_person(champion: Any, tmp_path: Path) -> None:
    desk, world = champion()
    registry, live = desk.registry, _live(world, tmp_path / "rich.csv", **RICH)
    _, advice = watch(registry, live, None, read_watch_settings(), actor("chen"))
    file = registry.path / "recommendation.json"
    assert signed_advice(registry, desk.state, file) == advice
    desk.now += 1
    registry.write(
        "people", ROOT, key(ROOT), lambda s: {"people": s.staff.revoked("chen", desk.now, key(ROOT)).to_json()}
    )
    assert "revoked" in objection(registry, desk.state, standing_advice(registry, desk.state))
    with pytest.raises(UsageError, match="revoked"):
        signed_advice(registry, desk.state, file)


def test_a_bundle_without_a_reference_needs_its_run_s_home(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion(bare=True)
    live = _live(world, tmp_path / "live.csv")
    assert _watch(desk, live) == 2
    assert "--home HOME" in capsys.readouterr().err
    assert _watch(desk, live, "--home", str(world.home("bank").path)) == 0
    assert "the label owner's home" in capsys.readouterr().out


def test_a_champion_is_watched_as_it_is_served(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion()
    names = open_bundle(tmp_path / "made").view_columns
    with_views = _live(world, tmp_path / "views.csv", **{name: pl.lit(1.0) for name in names})

    def watched(*more: str) -> Any:
        _watch(desk, with_views, "--json", *more)
        said = json.loads(capsys.readouterr().out)
        scores = {
            f["shift"]["subject"]: f["shift"]["value"] for f in said["findings"] if f["shift"]["kind"] == "score_psi"
        }
        return said["watched"]["scores"], [n for n in said["watched"]["notes"] if "served bank alone" in n], scores

    assert watched()[:2] == ("fused", [])
    home, word = world.home("bank"), Acknowledgement(b"\1" * 32, b"\2" * 64)
    at_home = ("--home", str(home.path))
    assert watched(*at_home)[:2] == ("fused", [])
    for i in range(KEPT):
        keep_acknowledged(home, bytes([i]) * 32, {"tax": word, "ecommerce": word})
    scores, (why,), _ = watched(*at_home)
    assert (scores, "one of the last 3" in why) == ("bank alone", True)


def test_a_champion_that_not_all_acknowledged_is_watched_bank_alone(champion: Any, tmp_path: Path, capsys: Any) -> None:
    desk, world = champion(encoders={})
    bare = _live(world, tmp_path / "bare.csv")
    names = open_bundle(tmp_path / "made").view_columns
    with_views = _live(world, tmp_path / "views.csv", **{name: pl.lit(1.0) for name in names})

    def findings(table: Path) -> Any:
        assert _watch(desk, table, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert [n for n in said["watched"]["notes"] if "not acknowledged by any partner" in n]
        return said["watched"]["scores"], said["findings"]

    assert findings(with_views) == findings(bare)
    assert findings(bare)[0] == "bank alone"


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
