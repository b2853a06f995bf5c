"""``fedprofile score``: what the command line adds to ``registry.batch``: words, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedprofile.cli.main import main
from fedprofile.registry import batch

DONE = {"rows": 6, "out": "out.csv", "tasks": ["tier"], "scores": "fused"}


@pytest.mark.parametrize("words", [[], ["--json"], ["--force"]])
def test_the_summary_is_a_line_or_json(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    asked = []
    monkeypatch.setattr(batch, "score_file", lambda *files, force: asked.append((*files, force)) or DONE)
    assert main(["score", "bundle", "in.csv", "out.csv", *words]) == 0
    assert asked == [(Path("bundle"), Path("in.csv"), Path("out.csv"), "--force" in words)]
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
