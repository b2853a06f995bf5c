"""The gates on a real finished run: a bundle against itself, against a worse one, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedprofile.acknowledging import Acknowledgement
from fedprofile.errors import ConfigError, DataError, UsageError
from fedprofile.governance.gates import GATES, Verdict
from fedprofile.label_owner.judging import SKIPPED, judge_tasks
from fedprofile.models.bank import BankData
from fedprofile.models.fusion import fit_fusion
from fedprofile.node.encoders import KEPT, finished_run, keep_acknowledged
from fedprofile.registry.bundle import open_bundle, write_bundle
from fedprofile.registry.describing import Origin, describe_model
from fedprofile.registry.evidence import gather
from fedprofile.registry.gating import gate_bundle, read_gate_settings
from fedprofile.registry.holdout import AS_SERVED, FOREIGN_SUMS, notes, read_held, score
from fedprofile.registry.quality import group_codes
from fedprofile.registry.serving import served
from fedprofile.secagg.identity import Identity

SETTINGS = replace(read_gate_settings(), draws=100, smallest_group=10)


def _write(folder: Path, world: Any, fused: Any, model: Any = None, **facts: Any) -> Path:
    home, plan = world.home("bank"), world.job.plan
    tasks = judge_tasks(fused, None, plan.tasks, 20, 0, SKIPPED)
    meta = describe_model(home, plan, world.job.roster, fused, tasks, Origin()) | facts
    write_bundle(folder, model or fused.fused, meta, {}, Identity.from_seed(home.derive("identity")))
    return folder


@pytest.fixture
def good(finished: Any, fused: Any, tmp_path: Path) -> Path:
    return _write(tmp_path / "good", finished[0], fused)


@pytest.fixture
def worse(finished: Any, fused: Any, tmp_path: Path) -> Path:
    """The same fusion fitted to labels that were dealt out at random."""
    data, rng = fused.data, np.random.default_rng(0)
    labels = {t: rng.permutation(y) for t, y in data.labels.items()}
    shuffled = BankData(data.table, labels, data.train, data.valid)
    sums = rng.permutation(fused.sums)
    model = fit_fusion(shuffled, fused.bank, sums, data.known, finished[0].job.plan.tasks, 0, 0.0, ["linear"])
    return _write(tmp_path / "worse", finished[0], fused, replace(model, used=dict.fromkeys(labels, True)))


def _findings(verdict: Verdict, gate: str) -> list[bool | None]:
    return [f.passed for f in verdict.findings if f.gate.split("/")[0] == gate]


def test_a_bundle_beside_itself_differs_by_nothing(finished: Any, good: Path, tmp_path: Path) -> None:
    home, out = finished[0].home("bank").path, tmp_path / "report"
    verdict = gate_bundle(good, good, home, SETTINGS, out)
    assert {f.gate.split("/")[0] for f in verdict.findings} == set(GATES)
    assert {f.value for f in verdict.findings if "against_champion" in f.gate} == {0.0}
    assert _findings(verdict, "secure_profile") == [True]
    data = (out / "gate.json").read_bytes()
    views = [m for m in json.loads(data)["evidence"]["measures"] if m["gate"] == "views" and m["value"] is not None]
    assert any("2 views" in m["subject"] for m in views)
    assert any("silent" in m["subject"] for m in views)
    assert all(
        (m["champion"], m["champion_low"], m["champion_high"]) == (m["value"], m["low"], m["high"]) for m in views
    )
    assert hashlib.sha256(data).hexdigest() == verdict.report
    assert verdict.manifest == hashlib.sha256((good / "manifest.json").read_bytes()).hexdigest()
    assert Verdict.from_json(json.loads((out / "verdict.json").read_bytes())) == verdict
    page = (out / "gate.html").read_text()
    assert verdict.report in page
    assert "<script" not in page
    assert page.count("<img alt=") == 4
    assert all(f.gate in page for f in verdict.findings)
    ids = {str(i) for i in finished[0].federation.labels.ids}
    assert not any(f'"{i}"' in data.decode() for i in ids), "no customer is in a report"


def test_a_worse_bundle_fails_and_says_by_how_much(finished: Any, good: Path, worse: Path, tmp_path: Path) -> None:
    home = finished[0].home("bank").path
    verdict = gate_bundle(worse, good, home, SETTINGS, tmp_path / "report")
    assert not verdict.passed
    assert False in _findings(verdict, "log_loss_against_champion")
    other = gate_bundle(good, worse, home, SETTINGS, tmp_path / "other")
    assert _findings(other, "log_loss_against_champion") == [True] * len(finished[0].job.plan.tasks)


def test_groups_are_told_by_share_and_count_beside_their_gap(finished: Any, good: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, groups=("city_class",))
    gate_bundle(good, good, finished[0].home("bank").path, settings, tmp_path / "report")
    told = json.loads((tmp_path / "report" / "gate.json").read_bytes())["evidence"]["measures"]
    gaps = [m for m in told if m["gate"] == "fairness" and m["value"] is not None]
    assert gaps
    for gap in gaps:
        judged = [p for p in gap["parts"] if p["value"] is not None]
        assert all((p["count"] >= SETTINGS.smallest_group) == (p in judged) for p in gap["parts"])
        assert sum(p["count"] for p in gap["parts"]) == gap["count"]
        shares = [p["value"] for p in judged]
        assert gap["value"] == pytest.approx(max(shares) - min(shares))
        assert all(p["low"] <= p["value"] <= p["high"] for p in judged)
        assert shares == [p["champion"] for p in judged]
    for m in told:
        if m["gate"] in ("auc", "calibration"):
            assert (m["champion_low"], m["champion_high"]) == (m["low"], m["high"])
    page = (tmp_path / "report" / "gate.html").read_text()
    assert page.count("<img alt=") == 5


def test_equal_evidence_gives_an_equal_report_but_for_the_time_it_took(finished: Any, good: Path) -> None:
    bundle, home = open_bundle(good), finished[0].home("bank")
    first, second = (gather(bundle, good, None, home, SETTINGS, date(2026, 1, 1), {}) for _ in range(2))

    def untimed(evidence: Any) -> list[Any]:
        return [m for m in evidence.measures if m.gate != "latency_ms"]

    assert untimed(first) == untimed(second)
    assert {m.note for m in first.measures if m.gate.endswith("_champion")} == {"there is no champion to compare with"}


def test_what_cannot_be_compared_is_unknown_and_said(finished: Any, fused: Any, good: Path, tmp_path: Path) -> None:
    home, settings = finished[0].home("bank"), replace(SETTINGS, groups=("nowhere",))
    others = {p: {"digest": "cd" * 32, "signature": "ef" * 64, "reason": None} for p in ("ecommerce", "tax")}
    other = open_bundle(_write(tmp_path / "fold", finished[0], fused, fold=3, encoders=others))
    found = gather(open_bundle(good), good, other, home, settings, date(2026, 1, 1), {})
    notes = {m.gate: m.note for m in found.measures if m.value is None}
    assert "another split" in notes["auc_against_champion"]
    assert "no such column" in notes["fairness"]
    assert notes["data_quality"].startswith("simulated")
    assert any("encoders" in note for note in found.notes)
    silent = open_bundle(_write(tmp_path / "true", finished[0], fused, label_eps_total=None, secure="none"))
    facts = {m.gate: m for m in gather(silent, good, None, home, settings, date(2026, 1, 1), {}).measures}
    assert facts["label_epsilon"].value is None
    assert facts["secure_profile"].value == 0


def test_both_are_judged_as_they_are_served(finished: Any, fused: Any, good: Path, tmp_path: Path) -> None:
    world, home = finished[0], finished[0].home("bank")
    fusing = replace(fused.fused, used=dict.fromkeys(fused.fused.used, True))
    ours = open_bundle(_write(tmp_path / "ours", world, fused, fusing))
    quiet = open_bundle(_write(tmp_path / "quiet", world, fused, fusing, encoders={}))
    foreign = {p: {"digest": "cd" * 32, "signature": "ef" * 64} for p in ("ecommerce", "tax")}
    other = open_bundle(_write(tmp_path / "other", world, fused, fusing, encoders=foreign, plan="ee" * 32))
    held, task = read_held(home, ours), world.job.plan.tasks[0].name
    alone, with_sums = ours.score(held.data.table)[task], score(ours, held)[task]
    assert (alone != with_sums).any()

    def judged(*pair: Any) -> list[Any]:
        said = notes(*pair, held)
        return [said, *(np.array_equal(score(b, held)[task], alone) for b in pair)]

    why = "its encoders are not acknowledged by any partner"
    assert judged(ours, ours) == [(), False, False]
    assert judged(ours, other) == [(FOREIGN_SUMS,), False, False]
    assert judged(ours, quiet) == [(AS_SERVED.format("champion", why),), False, True]
    assert judged(quiet, ours) == [(AS_SERVED.format("challenger", why), FOREIGN_SUMS), True, False]
    found = gather(quiet, good, None, home, SETTINGS, date(2026, 1, 1), {})
    assert AS_SERVED.format("challenger", why) in found.notes
    told = {m.subject: m.value for m in found.measures if m.gate == "views"}
    assert (
        told[f"{task}, 2 views"]
        != {
            m.subject: m.value
            for m in gather(ours, good, None, home, SETTINGS, date(2026, 1, 1), {}).measures
            if m.gate == "views"
        }[f"{task}, 2 views"]
    )
    # as many runs later as partners keep encoders of
    words = {p: Acknowledgement(b"\1" * 32, b"\2" * 64) for p in ("ecommerce", "tax")}
    for i in range(KEPT - 1):
        keep_acknowledged(home, bytes([i]) * 32, words)
    assert judged(ours, ours) == [(), False, False]
    (said,), *how = judged(ours, other)
    assert ("one of the last 3" in said, how) == (True, [False, True])


def test_a_snapshot_is_judged_by_quality_and_age(finished: Any, good: Path) -> None:
    home, read = finished[0].home("bank"), date(2026, 1, 1)
    sha = hashlib.sha256((home.path / "table.parquet").read_bytes()).hexdigest()
    record: dict[str, Any] = {"contract": {"root": "00" * 32}, "table": {"sha256": sha}}
    record |= {"rows": {"kept": 1}, "read_on": read.isoformat(), "quality": {"figure": 0.97}}
    (home.path / "intake.json").write_text(json.dumps(record))
    found = gather(open_bundle(good), good, None, home, SETTINGS, read + timedelta(days=100), {})
    values = {m.gate: m.value for m in found.measures}
    assert (values["data_quality"], values["data_age_days"]) == (0.97, 100)


def test_other_keys_runs_and_settings_are_refused(finished: Any, fused: Any, good: Path, tmp_path: Path) -> None:
    world = finished[0]
    with pytest.raises(DataError, match=r"not trusted"):
        gate_bundle(good, None, world.home("tax").path, SETTINGS, tmp_path / "r")
    other = _write(tmp_path / "other", world, fused, plan="00" * 32)
    with pytest.raises(UsageError, match=r"was not made by the run"):
        gate_bundle(other, None, world.home("bank").path, SETTINGS, tmp_path / "r")
    assert not (tmp_path / "r").exists()
    for name, text in (("bad.yaml", "[1]"), ("worse.yaml", "{"), ("less.yaml", "gates: {}")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError):
            read_gate_settings(tmp_path / name)
    with pytest.raises(ConfigError, match=r"no settings"):
        read_gate_settings("nowhere")


def test_the_bundle_says_how_it_was_made_and_nothing_of_a_row_or_place(finished: Any, good: Path) -> None:
    world, meta = finished[0], open_bundle(good).meta
    assert meta["plan"] == meta["run"]["plan"] == world.job.plan.hash.hex()
    assert meta["roles"] == ["ecommerce", "tax"]
    kept = {p: finished_run(world.home(p), world.job.plan.hash) for p in ("ecommerce", "tax")}
    assert {p: word["digest"] for p, word in meta["encoders"].items()} == {p: run["digest"] for p, run in kept.items()}
    assert served(meta) == "served fused"
    for absent in (meta["contract"]["root"], meta["consent"]["root"], meta["parent"]["manifest"]):
        assert absent is None
    assert all(meta[part]["reason"] for part in ("contract", "consent", "parent"))
    text = json.dumps(meta)
    assert str(world.root) not in text
    assert "EXAMPLE" not in text
    assert set(meta["thresholds"]) == set(meta["metrics"]) == {t.name for t in world.job.plan.tasks}


def test_a_run_that_did_not_finish_everywhere_says_so_in_its_bundle(finished: Any, fused: Any, tmp_path: Path) -> None:
    (finished[0].home("bank").path / "encoders" / "finished.json").unlink()
    meta = open_bundle(_write(tmp_path / "early", finished[0], fused)).meta
    assert set(meta["encoders"]) == {"ecommerce", "tax"}
    assert all(word["digest"] is None and "did not finish" in word["reason"] for word in meta["encoders"].values())
    assert served(meta) == "served bank alone: its encoders are not acknowledged by ecommerce, tax"


def test_groups_are_levels_or_quarters() -> None:
    assert group_codes(np.array(["f", None, "m"], dtype=object)).tolist() == ["f", "missing", "m"]
    assert group_codes(np.array([1.0, 2.0, np.nan])).tolist() == ["1", "2", "missing"]
    assert set(group_codes(np.arange(100.0))) == {f"quarter {i}" for i in range(1, 5)}
