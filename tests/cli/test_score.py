"""``fedprofile score``: what the command line adds to ``registry.batch``: words, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedprofile.cli.main import main
from fedprofile.registry import batch

DONE = {"rows": 6, "out": "out.csv", "tasks": ["tier"], "scores": "fused", "key": "ab" * 32, "pinned": True}


@pytest.mark.parametrize("words", [[], ["--json"], ["--force"]])
def test_the_summary_is_a_line_or_json(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    asked = []
    monkeypatch.setattr(
        batch,
        "score_file",
        lambda *files, force, permit, trust, shadow, finished: asked.append((*files, force, permit)) or DONE,
    )
    assert main(["score", "bundle", "in.csv", "out.csv", *words]) == 0
    assert asked == [(Path("bundle"), Path("in.csv"), Path("out.csv"), "--force" in words, None)]
    out = capsys.readouterr().out
    if "--json" in words:
        assert json.loads(out) == DONE
    else:
        assert out == "6 rows scored (fused): out.csv\n"


def test_a_mistake_is_one_line_and_2(tmp_path: Path, capsys) -> None:
    assert main(["score", str(tmp_path), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: IN 'in.csv' is missing. Give a CSV, CSV.gz or Parquet file."
    ]


def test_a_home_comes_with_a_purpose(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedprofile.governance.permits import LedgerPermit
    from fedprofile.node.home import NodeConfig, NodeHome

    NodeHome.create(tmp_path / "home", NodeConfig("bank", "bank", "bank", "own", "ledger"))
    words = ["score", "bundle", "in.csv", "out.csv", "--home", str(tmp_path / "home")]
    assert main(words) == 2
    assert "--home and --purpose come together" in capsys.readouterr().err
    NodeHome.create(tmp_path / "lab", NodeConfig("bank", "bank", "bank", "own", "simulated"))
    assert main([*words[:-1], str(tmp_path / "lab"), "--purpose", "tiering"]) == 2
    assert "asks nobody: its consent is simulated" in capsys.readouterr().err
    asked = []
    monkeypatch.setattr(
        batch,
        "score_file",
        lambda *_, force, permit, trust, shadow, finished: asked.append(permit) or DONE | {"withheld": 2},
    )
    assert main([*words, "--purpose", "tiering"]) == 0
    assert isinstance(asked[0], LedgerPermit)
    assert (asked[0].wanted.purpose, asked[0].wanted.holder, asked[0].wanted.recipient) == ("tiering", "bank", "bank")
    assert "2 withheld without consent" in capsys.readouterr().out
