"""A champion is served with its partners only where all of them keep its very encoders."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from desk import PLAN, WORD, Desk, actor

from fedprofile.acknowledging import Acknowledgement
from fedprofile.cli.main import main
from fedprofile.governance.permits import SimulatedPermit
from fedprofile.node.encoders import KEPT, keep_acknowledged
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.registry.bundle import open_bundle
from fedprofile.registry.promote import roll_back
from fedprofile.registry.serving import encoder_digests, served

N = 40
NONE = {"digest": None, "signature": None, "reason": "it did not finish"}


def _score(desk: Desk, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str, bytes]:
    place = ["--registry", str(desk.registry.path), "--json", "--force"]
    assert main(["score", "@champion", str(desk.folder / "in.csv"), str(desk.folder / "out.csv"), *place, *words]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err, (desk.folder / "out.csv").read_bytes()


def _customers(desk: Desk, views: bool) -> None:
    rng = np.random.default_rng(1)
    columns = {"id": [f"k{i}" for i in range(N)], "age": rng.normal(size=N)}
    names = open_bundle(desk.bundle("columns")).view_columns if views else ()
    columns |= {c: np.ones(N) if c.startswith("known") else rng.normal(size=N) for c in names}
    pl.DataFrame(columns).write_csv(desk.folder / "in.csv")


def test_a_champion_that_all_acknowledged_is_served_fused_while_its_home_keeps_the_run(desk, capsys, monkeypatch):
    desk.champion("a", id="id")
    _customers(desk, False)
    *_, alone = _score(desk, capsys)
    _customers(desk, True)
    done, err, fused = _score(desk, capsys)
    assert (done["scores"], "why_alone" in done, err) == ("fused", False, "")
    assert fused != alone
    home = NodeHome.create(desk.folder / "bank", NodeConfig("bank", "bank", "bank", "own", "ledger"))
    word = Acknowledgement(b"\1" * 32, b"\2" * 64)
    plans = [bytes.fromhex(PLAN), *(bytes([i]) * 32 for i in range(1, KEPT + 1))]
    monkeypatch.setattr("fedprofile.node.consent.permit_of", lambda *_: SimulatedPermit())
    at_home = ("--home", str(home.path), "--purpose", "tiering")
    for plan in plans[:KEPT]:
        keep_acknowledged(home, plan, {"tax": word})
    assert _score(desk, capsys, *at_home)[0]["scores"] == "fused"
    keep_acknowledged(home, plans[KEPT - 1], {"tax": word})  # once more, after a crash
    assert _score(desk, capsys, *at_home)[0]["scores"] == "fused"
    keep_acknowledged(home, plans[KEPT], {"tax": word})
    done, err, out = _score(desk, capsys, *at_home)
    assert (done["scores"], out) == ("bank alone", alone)
    assert "one of the last 3" in done["why_alone"]
    assert "served bank alone" in err
    assert _score(desk, capsys)[0]["scores"] == "fused", "without a home, the bundle's own word counts"


def test_one_that_somebody_has_not_acknowledged_is_served_bank_alone_and_says_so(desk, capsys):
    desk.champion("a")
    desk.champion("quiet", encoders={"shop": WORD, "tax": NONE})
    _customers(desk, False)
    *_, expected = _score(desk, capsys)
    _customers(desk, True)
    done, err, out = _score(desk, capsys)
    assert out == expected
    why = "its encoders are not acknowledged by tax"
    assert (done["scores"], done["why_alone"]) == ("bank alone", why)
    assert err.splitlines() == [f"note: the champion is served bank alone: {why}"]
    place = ["--registry", str(desk.registry.path)]
    assert main(["registry", "history", *place]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f": served bank alone: {why}")
    assert main(["registry", "status", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["served"] == f"served bank alone: {why}"
    assert main(["score", *(str(desk.folder / name) for name in ("quiet", "in.csv", "out.csv")), "--force"]) == 0
    assert f"note: the bundle is served bank alone: {why}" in capsys.readouterr().err.splitlines()
    assert (desk.folder / "out.csv").read_bytes() == expected
    roll_back(desk.registry, actor("chen"), None, "partners are missed")
    done, _, out = _score(desk, capsys)
    assert (done["scores"], out == expected) == ("fused", False)
    assert main(["registry", "status", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["served"] == "served fused"


@pytest.mark.parametrize(
    ("encoders", "who"),
    [({}, "any partner"), (None, "any partner"), ({"tax": NONE, "shop": NONE}, "shop, tax"),
     ({"tax": WORD, "shop": WORD | {"signature": None}}, "shop")],
)  # fmt: skip
def test_who_is_missing_is_named(encoders, who):
    meta = {"plan": PLAN, "encoders": encoders}
    assert served(meta) == f"served bank alone: its encoders are not acknowledged by {who}"
    assert encoder_digests(meta) == {}


def test_digests_are_compared_where_all_are_there():
    assert encoder_digests({"encoders": {"tax": WORD}}) == {"tax": WORD["digest"]}
