"""What a watch advises is a pure function of figures and bars."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.errors import ConfigError, DataError
from fedprofile.governance.watch import KINDS, Shift, Watched, WatchSettings, judge

SETTINGS = WatchSettings(dict.fromkeys(KINDS, 0.25), 200)
WATCHED = Watched("ab" * 32, 200, "fused", "the bundle")
shift = st.builds(
    Shift, st.sampled_from(KINDS), st.sampled_from("abc"), st.floats(0, 2), st.floats(0, 2), st.just(900), st.just(200)
)


@given(st.lists(shift, max_size=6), st.randoms())
def test_only_what_is_over_bar_and_chance_moves_and_the_order_does_not_matter(shifts, random):
    outlook = judge(WATCHED, shifts, SETTINGS)
    assert outlook.retrain == any(s.value > 0.25 and s.value > s.noise for s in shifts)
    assert sorted(map(repr, (f.shift for f in outlook.findings))) == sorted(map(repr, shifts))
    mixed = random.sample(shifts, len(shifts))
    again = judge(WATCHED, mixed, SETTINGS)
    assert {repr(f) for f in again.findings} == {repr(f) for f in outlook.findings}
    assert again.retrain == outlook.retrain


def test_evidence_is_named_by_all_that_it_holds():
    one = judge(WATCHED, [Shift("missing", "age", 0.3, 0.1, 900, 200)], SETTINGS)
    other = judge(WATCHED, [Shift("missing", "age", 0.31, 0.1, 900, 200)], SETTINGS)
    assert one.evidence != other.evidence
    by_chance = judge(WATCHED, [Shift("missing", "age", 0.3, 0.4, 900, 200)], SETTINGS)
    assert not by_chance.retrain
    assert "chance" in by_chance.findings[0].reason


def test_too_few_customers_are_not_judged():
    with pytest.raises(DataError, match="199, of which 200"):
        judge(replace(WATCHED, rows=199), [], SETTINGS)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({}, "watch.bars"),
        ({"bars": {"missing": 1}, "min_rows": 1}, "watch.bars"),
        ({"bars": dict.fromkeys(KINDS, 0.1) | {"unseen": True}, "min_rows": 1}, "watch.bars.unseen"),
        ({"bars": dict.fromkeys(KINDS, float("nan")), "min_rows": 1}, "watch.bars.score_psi"),
        ({"bars": dict.fromkeys(KINDS, 0.1), "min_rows": 0}, "watch.min_rows"),
        ({"bars": dict.fromkeys(KINDS, 0.1), "min_rows": 1, "more": 1}, "watch.more"),
    ],
)
def test_a_wrong_setting_is_named(data, key):
    with pytest.raises(ConfigError) as caught:
        WatchSettings.from_json(data)
    assert caught.value.key == key
