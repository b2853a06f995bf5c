"""Prometheus' text format, read back by its grammar."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.deployment.metrics import Family, gauge, labelled, render


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False), max_size=5), st.text(max_size=20))
def test_whatever_a_label_or_a_help_holds(read_metrics, by, help):
    assert read_metrics(render([labelled("m", "gauge", help, "k", by)])) == {("m", k): v for k, v in by.items()}


def test_what_there_is_nothing_to_say_about_is_left_out():
    families = [gauge("a", "A.", None), gauge("b", "B.", True), Family("c", "counter", "C.", ())]
    assert render(families) == "# HELP b B.\n# TYPE b gauge\nb 1.0\n"
