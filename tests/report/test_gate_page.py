"""gate.html: charts from the report's own figures, tables that say the same, nothing loaded."""

import subprocess
import sys
from dataclasses import replace

import pytest

from fedprofile.governance.gates import Evidence, Measure, Part, judge, report_of
from fedprofile.registry.gating import read_gate_settings
from fedprofile.report import gate_charts
from fedprofile.report.gate_page import gate_page
from fedprofile.report.plots import write_gate_plots

SETTINGS = read_gate_settings()
GROUPS = (
    Part("female", 1204, 0.71, 0.66, 0.76, 0.70),
    Part("男 <b>", 310, 0.52, 0.40, 0.64, 0.60),
    Part("missing", 12),
)
NEW, OLD = (0.81, 0.79, 0.83), {"champion": 0.79, "champion_low": 0.77, "champion_high": 0.812}
MEASURES = (
    Measure("auc", "tier", *NEW, count=4000, **OLD),
    Measure("auc", "invest", 0.62, 0.58, 0.66, count=4000),
    Measure("calibration", "tier", 0.03, 0.02, 0.05, 0.04, 4000, champion_low=0.03, champion_high=0.06),
    Measure("auc_against_champion", "tier", 0.02, 0.004, 0.036, count=4000),
    Measure("log_loss_against_champion", "tier", -0.01, -0.02, 0.003, count=4000),
    *(Measure("views", f"tier, {k} views", 0.70 + 0.05 * k, 0.67 + 0.05 * k, 0.74 + 0.05 * k, count=900) for k in range(2)),
    Measure("views", "tier, 2 views", 0.80, 0.77, 0.84, 0.79, 900, champion_low=0.755, champion_high=0.82),
    Measure("views", "tier, 3 views", None, count=31, note="31 customers, 50 are needed"),
    Measure("views", "tier, partners silent", 0.66, 0.64, 0.69, 0.65, 4000, champion_low=0.635, champion_high=0.68),
    Measure("fairness", "tier by gender", 0.19, 0.10, 0.30, 0.1, 1526, "groups …", parts=GROUPS),
)  # fmt: skip


def _report(*measures):
    evidence = Evidence("ab" * 32, "cd" * 32, measures, ("A note.",))
    verdict = judge(evidence, SETTINGS)
    return report_of(evidence, SETTINGS, verdict.findings)


def _page(report, dir):
    dir.mkdir()
    return gate_page(report, False, "ef" * 32, write_gate_plots(report, dir))


def test_every_chart_with_figures_is_drawn_and_told_in_words(tmp_path):
    plots = write_gate_plots(_report(*MEASURES), tmp_path)
    told = {path.stem: text for path, text in plots.items()}
    assert told == {
        "auc": "ROC-AUC: 1 of 2 fail: invest",
        "calibration": "Calibration error (ECE): 1 of 1 clear the bar",
        "against_champion": "Challenger minus champion: 2 of 2 clear the bar",
        "views": "By how many partners know the customer: 4 of 4 clear the bar",
        "fairness": "Gaps between groups: 1 of 1 clear the bar",
    }


def test_the_champion_stands_below_the_challenger_by_how_many_partners_know_the_customer():
    (axes,) = gate_charts.views(_report(*MEASURES)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "tier, 0 views (900)", "tier, 1 views (900)", "tier, 2 views (900)", "champion",
        "tier, 3 views (31, not judged)", "tier, partners silent (4,000)", "champion",
    ]  # fmt: skip
    drawn = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1}
    assert (drawn[2], drawn[3], drawn[5], drawn[6]) == (0.80, 0.79, 0.66, 0.65)


def test_the_page_loads_nothing_and_its_tables_hold_what_the_charts_show(tmp_path):
    page = _page(_report(*MEASURES), tmp_path / "plots")
    assert page.count('src="data:image/png;base64,') == page.count("<img alt=") == 5
    assert not [link for link in page.split('src="')[1:] if not link.startswith("data:image/png;base64,")]
    assert "http" not in page.split("<body>")[1]
    assert len(page) < 600_000
    tables = page.split("<h2>Findings</h2>")[1]
    for figure in (
        "[0.770, 0.812]",
        "[0.400, 0.640]",
        "1,204",
        "[0.640, 0.690]",
        "[0.755, 0.820]",
        "[−0.020, 0.003]",
        "男 &lt;b&gt;",
    ):
        assert figure in tables, figure
    assert "<b>" not in page


def test_what_was_not_measured_has_no_chart(tmp_path):
    unmeasured = [replace(m, value=None, low=None, high=None, champion=None, parts=()) for m in MEASURES]
    page = _page(_report(*unmeasured), tmp_path / "none")
    assert "<img" not in page
    assert "At a glance" not in page
    assert "by group" not in page
    assert _page(_report(MEASURES[-1]), tmp_path / "one").count("<img") == 1


def test_equal_reports_give_equal_pages(tmp_path):
    first, second = (_page(_report(MEASURES[0]), tmp_path / name) for name in "ab")
    assert first == second


@pytest.mark.filterwarnings("error::UserWarning")
def test_hostile_names_draw_without_a_warning(tmp_path):
    hostile = "../$\\frac{<script>"
    measures = [
        Measure("auc", hostile, 0.8),
        Measure("views", hostile, 0.8, count=1),
        Measure("fairness", hostile, 0.1, parts=(Part(hostile, 60, 0.5),)),
    ]
    page = _page(_report(*measures), tmp_path / "plots")
    assert page.count("<img") == 3
    assert "<script" not in page


def test_nothing_is_drawn_with_until_a_page_is_made():
    code = "import sys, fedprofile.report.gate_page, fedprofile.report.plots; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
