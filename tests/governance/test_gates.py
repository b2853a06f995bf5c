"""The verdict: nothing passes in silence, the reasons are there, and equal evidence gives an equal report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import fedprofile.configs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.errors import ConfigError
from fedprofile.governance.gates import GATES, Bar, Evidence, Measure, Settings, Verdict, judge

RAW = {"gates": {gate: {"min": 0} for gate in GATES}}
SETTINGS = Settings.from_json(RAW)
GOOD = tuple(Measure(gate, "", 1.0) for gate in GATES)
EVIDENCE = Evidence("ab" * 32, None, GOOD)


def test_all_gates_above_their_bars_pass_and_the_verdict_survives_json():
    verdict = judge(EVIDENCE, SETTINGS)
    assert verdict.passed
    assert len(verdict.findings) == len(GATES)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@given(st.sampled_from(GATES), st.sampled_from([None, float("nan"), float("inf"), -1.0]))
def test_one_gate_below_its_bar_or_unknown_fails_the_whole(gate, value):
    worse = replace(EVIDENCE, measures=tuple(replace(m, value=value) if m.gate == gate else m for m in GOOD))
    verdict = judge(worse, SETTINGS)
    assert not verdict.passed
    assert [f.gate for f in verdict.failed] == [gate]
    assert verdict.failed[0].reason


def test_what_was_not_measured_fails_or_does_not_apply_as_the_settings_say():
    none = judge(replace(EVIDENCE, measures=()), SETTINGS)
    assert {f.passed for f in none.findings} == {False}
    skipping = Settings.from_json({"gates": {g: {"min": 0, "unknown": "skip"} for g in GATES}})
    skipped = judge(replace(EVIDENCE, measures=()), skipping)
    assert {f.passed for f in skipped.findings} == {None}
    assert not skipped.passed, "nothing was judged, so nothing passed"
    assert all(f.reason.startswith("unknown: ") for f in skipped.findings)


def test_the_end_of_the_interval_is_what_a_bar_may_ask_for():
    bars = dict(SETTINGS.bars) | {"auc": Bar("min", 0.6, "low")}
    settings = replace(SETTINGS, bars=bars)
    measured = tuple(m for m in GOOD if m.gate != "auc")
    wide = replace(EVIDENCE, measures=(*measured, Measure("auc", "tier", 0.7, 0.55, 0.8, count=90)))
    assert [f.gate for f in judge(wide, settings).failed] == ["auc/tier"]
    assert "90 customers" in judge(wide, settings).failed[0].reason
    without = replace(EVIDENCE, measures=(*measured, Measure("auc", "tier", 0.7)))
    assert "no interval" in judge(without, settings).failed[0].reason


def test_the_report_hash_moves_with_every_part():
    verdict = judge(EVIDENCE, SETTINGS)
    others = [
        judge(replace(EVIDENCE, manifest="cd" * 32), SETTINGS),
        judge(replace(EVIDENCE, notes=("read this",)), SETTINGS),
        judge(replace(EVIDENCE, measures=(replace(GOOD[0], value=2.0), *GOOD[1:])), SETTINGS),
        judge(EVIDENCE, replace(SETTINGS, seed=1)),
    ]
    assert judge(EVIDENCE, SETTINGS).report == verdict.report
    assert len({v.report for v in [verdict, *others]}) == 5


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda g: g.pop("auc"), "promotion.gates.auc"),
        (lambda g: g.update(acu={"min": 1}), "promotion.gates.acu"),
        (lambda g: g.update(auc={"min": 0, "max": 1}), "promotion.gates.auc"),
        (lambda g: g.update(auc={"min": "high"}), "promotion.gates.auc.min"),
        (lambda g: g.update(auc={"min": float("nan")}), "promotion.gates.auc.min"),
        (lambda g: g.update(auc={"min": 0, "unknown": "pass"}), "promotion.gates.auc"),
    ],
)
def test_settings_that_would_leave_a_gate_open_are_refused_by_name(change, key):
    raw = json.loads(json.dumps(RAW))
    change(raw["gates"])
    with pytest.raises(ConfigError) as caught:
        Settings.from_json(raw)
    assert caught.value.key == key
    with pytest.raises(ConfigError):
        Settings.from_json({**RAW, "drawers": 3})
    with pytest.raises(ValueError, match="no such gate"):
        judge(replace(EVIDENCE, measures=(Measure("luck", "", 1.0),)), SETTINGS)


def test_the_shipped_settings_are_complete():
    shipped = Path(fedprofile.configs.__file__).parent / "promotion" / "default.yaml"
    settings = Settings.from_json(yaml.safe_load(shipped.read_text()))
    assert tuple(settings.bars) == GATES
