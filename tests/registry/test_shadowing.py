"""A shadow scores whom the champion scores, in silence; what is kept of it are counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from desk import WORD, Desk, actor
from office import key

from fedprofile.cli.main import main
from fedprofile.errors import DataError
from fedprofile.registry.bundle import open_bundle, write_bundle
from fedprofile.registry.promote import shadow
from fedprofile.registry.reference import ALONE, FUSED
from fedprofile.registry.shadowing import CELLS, NEVER, recall, remember, score_beside, shadow_measures

N = 60


def bundle(desk: Desk, name: str, **facts: Any) -> Path:
    meta = {"roles": ["tax"], "encoders": {"tax": WORD}, **facts}
    write_bundle(desk.folder / name, desk.model, meta, {}, key("li"))
    return desk.folder / name


def eager(desk: Desk, name: str, **facts: Any) -> Path:
    """The same model, which calls everybody who is not hopeless top."""
    return bundle(desk, name, thresholds={"tier": [1.0, 1.0, 0.01], "invest": [1.0, 0.01]}, **facts)


def customers(folder: Path, views: bool) -> Path:
    rng, columns = np.random.default_rng(1), {"id": [f"SECRET{i}" for i in range(N)]}
    frame = pl.DataFrame({**columns, "age": rng.normal(size=N)})
    if views:
        names = open_bundle(folder / "a").view_columns
        frame = frame.with_columns(
            **{c: pl.Series(np.ones(N) if c.startswith("known") else rng.normal(size=N)) for c in names}
        )
    frame.write_csv(folder / "in.csv")
    return folder / "in.csv"


def score(desk: Desk, capsys: pytest.CaptureFixture[str], out: str) -> dict[str, Any]:
    words = [
        "score",
        "@champion",
        desk.folder / "in.csv",
        desk.folder / out,
        "--registry",
        desk.registry.path,
        "--json",
    ]
    assert main([*map(str, words)]) == 0
    done: dict[str, Any] = json.loads(capsys.readouterr().out)
    return done


@pytest.mark.parametrize("views", [False, True])
def test_the_answer_is_the_champions_and_counts_are_kept(desk, capsys, views):
    champion, manifest = desk.champion("a"), desk.gate(eager(desk, "b"))
    customers(desk.folder, views)
    assert "shadow" not in score(desk, capsys, "before.csv")
    shadow(desk.registry, actor("chen"), manifest)
    for out in ("one.csv", "two.csv"):
        assert score(desk, capsys, out)["shadow"] == manifest
        assert (desk.folder / out).read_bytes() == (desk.folder / "before.csv").read_bytes()
    found = recall(desk.registry.path, champion, manifest)
    kept = found[FUSED if views else ALONE]["tier"]
    assert kept["customers"] == sum(kept["champion"]) == 2 * N
    assert kept["champion"] == kept["shadow"], "the same probabilities"
    assert kept["changed"] > 0
    (file,) = (desk.registry.path / "shadow").glob("*.json")
    assert "SECRET" not in file.read_text()
    changed = {m.subject: m for m in shadow_measures(found, 50) if m.gate == "shadow_changed"}
    assert changed[f"tier, {FUSED if views else ALONE}"].value == kept["changed"] / (2 * N)


def test_other_encoders_are_compared_bank_alone(desk):
    first, other = bundle(desk, "a"), eager(desk, "b", encoders={"tax": WORD | {"digest": "00" * 32}})
    champion, rival = open_bundle(first), open_bundle(other)
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=N) for name in champion.frame_columns}
    assert set(score_beside(champion, rival, columns, columns)) == {ALONE}
    assert set(score_beside(champion, champion, columns, columns)) == {FUSED}


def test_a_shadow_that_cannot_score_stops_no_answer(desk, capsys):
    desk.champion("a")
    manifest = desk.gate(eager(desk, "b"))
    shadow(desk.registry, actor("chen"), manifest)
    customers(desk.folder, False)
    (desk.registry.path / "bundles" / manifest / "weights.safetensors").write_bytes(b"x")
    words = ["score", "@champion", desk.folder / "in.csv", desk.folder / "o.csv", "--registry", desk.registry.path]
    assert main([*map(str, words)]) == 0
    said = capsys.readouterr()
    assert f"{N} rows scored" in said.out
    assert "warning: the shadow did not score" in said.err


def seen(customers: int, changed: int, champion: int, shadow: int) -> dict[str, Any]:
    cells = [[customers if i == at else 0 for i in range(CELLS)] for at in (champion, shadow)]
    return {"customers": customers, "changed": changed, "champion": cells[0], "shadow": cells[1]}


def test_measures_for_the_gates(tmp_path):
    assert [(m.gate, m.value, m.note) for m in shadow_measures({}, 50)] == [
        ("shadow_changed", None, NEVER), ("shadow_psi", None, NEVER),
    ]  # fmt: skip
    few = shadow_measures({ALONE: {"tier": seen(49, 3, 2, 2)}}, 50)
    assert all(m.value is None and "49 customers" in m.note for m in few)
    same, moved = (
        {m.gate: m.value for m in shadow_measures({ALONE: {"tier": seen(200, 20, 2, at)}}, 50)} for at in (2, 9)
    )
    assert same == {"shadow_changed": 0.1, "shadow_psi": 0.0}
    assert moved["shadow_psi"] > 1
    for _ in range(3):
        remember(tmp_path, "a" * 64, "b" * 64, {ALONE: {"tier": seen(10, 1, 2, 3)}})
    assert recall(tmp_path, "a" * 64, "b" * 64)[ALONE]["tier"] == seen(30, 3, 2, 3)
    assert recall(tmp_path, "b" * 64, "a" * 64) == {}


@pytest.mark.parametrize("text", ["{", '{"other": {"tier": 1}}', '{"fused": {"tier": {"customers": 9}}}'])
def test_a_damaged_count_is_refused(tmp_path, text):
    remember(tmp_path, "a" * 64, "b" * 64, {ALONE: {"tier": seen(10, 1, 2, 3)}})
    (file,) = (tmp_path / "shadow").glob("*.json")
    file.write_text(text)
    with pytest.raises(DataError, match="begins anew"):
        recall(tmp_path, "a" * 64, "b" * 64)
