"""The table at the end of a run."""

import re

from fedprofile.report import words
from fedprofile.report.table import render


def test_everything_that_must_be_told_is_told_within_80_columns(report):
    text = render(report, 80)
    assert max(map(len, text.splitlines())) <= 80
    for name in words.MODEL_NAMES.values():
        rows = [line for line in text.splitlines() if re.match(rf"{name}( \(\w+\))? +0\.\d{{3}} \[", line)]
        assert len(rows) == len(report["tasks"]), name
    flat = " ".join(text.split())
    told = ["0.746 [0.727, 0.766]", "0.94 of the AUC gap", "ROC-AUC +0.045 [+0.030, +0.060], better", "48.3 MB up"]
    told += [
        "tier 2, uninsured 2; 4 in total",
        "baselines 51.6 s",
        "outputs/example/report.html",
        "Warning: medical-2",
        "data quality bank 1.000, medical-2 0.997",
    ]
    for sentence in [*told, *report["statements"]]:
        assert sentence in flat.replace("• ", ""), sentence


def test_what_was_not_computed_says_why(bare):
    flat = " ".join(render(bare, 80).split())
    assert "gap closed not given: baselines=none" in flat
    assert "partners, not federated, pooled network, pooled gradient boosting, gain by partner: baselines=none" in flat
    assert "true labels were released" in flat
    assert "data quality not measured" in flat
    assert "report.html" not in flat


def test_a_hostile_name_can_neither_steer_the_terminal_nor_be_read_as_markup(bare):
    bare["tasks"] = {"[red]\x1b[2J\x1b]0;owned\x07": bare["tasks"]["uninsured"]}
    text = render(bare, 80)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text


def test_a_narrow_terminal_still_gets_every_row(report):
    assert "federated" in render(report, 40)
