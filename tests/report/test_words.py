"""The numbers and sentences that table, plots and page share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.report import words


@given(st.text())
def test_a_cleaned_name_is_one_harmless_line(text):
    cleaned = words.clean(text)
    assert all(c.isprintable() or c == "\u00a0" for c in cleaned)
    assert words.clean(cleaned) == cleaned
    assert len(cleaned) == len(text)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (words.number(None), "–"),
        (words.number(-0.1234), "−0.123"),
        (words.difference({"difference": 0.0449, "low": -0.001, "high": 0.06}), "+0.045 [−0.001, +0.060]"),
        (words.size(999), "999 B"),
        (words.size(999_999), "1.0 MB"),
        (words.size(48_300_000), "48.3 MB"),
        (words.duration(59.94), "59.9 s"),
        (words.duration(3_725), "1 h 2 min"),
        (words.epsilon(None), "none: true labels were released, by explicit choice"),
    ],
)
def test_known_answers(told, expected):
    assert told == expected


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("auc", 0.01, 0.03, "better"),
        ("auc", -0.03, -0.01, "worse"),
        ("log_loss", 0.01, 0.03, "worse"),
        ("ece", -0.03, -0.01, "better"),
        ("auc", -0.01, 0.03, "within noise"),
        ("auc", 0.0, 0.03, "within noise"),
    ],
)
def test_a_difference_is_judged_by_its_interval_and_the_metric_s_direction(metric, low, high, expected):
    assert words.judgement(metric, {"difference": (low + high) / 2, "low": low, "high": high}) == expected


def test_the_finding_claims_no_more_than_the_interval(report, bare):
    assert "above the bank alone and closes 94\u00a0% of the gap" in words.finding("tier", report["tasks"]["tier"])
    task = bare["tasks"]["uninsured"]
    task["federated_minus_bank"]["auc"]["low"] = -0.01
    assert words.finding("uninsured", task).endswith("against the bank alone, within noise")


def test_the_headline_does_not_call_unmasked_updates_masked(report, bare):
    assert "only masked updates" in words.headline(report)
    assert "unmasked updates (secure=none)" in words.headline(bare)
