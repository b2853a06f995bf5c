import pytest

from fedprofile.data.units import UNITS, factor, hinted, relatives


@pytest.mark.parametrize(
    ("source", "target", "times"),
    [
        ("10k CNY", "CNY", 10_000),
        ("fen", "CNY", 0.01),
        ("100M CNY", "10k CNY", 10_000),
        ("months", "years", 1 / 12),
        ("years", "months", 12),
        ("weeks", "days", 7),
        ("jin", "kg", 0.5),
        ("lb", "kg", 0.45359237),
        ("in", "cm", 2.54),
        ("kPa", "mmHg", 7.50061683),
        ("kJ", "kcal", 1000 / 4184),
        ("percent", "share", 0.01),
        ("ug/L", "ug/dL", 0.1),
    ],
)
def test_known_factors(source: str, target: str, times: float) -> None:
    assert factor(source, target) == pytest.approx(times, rel=1e-15)


def test_nothing_turns_into_what_it_does_not_measure() -> None:
    assert factor("USD", "CNY") is None
    assert factor("kg", "cm") is None
    for a in UNITS:
        for b in relatives(a):
            there, back = factor(a, b), factor(b, a)
            assert (there or 0) * (back or 0) == pytest.approx(1)


def test_a_name_hints_at_one_unit_or_at_none() -> None:
    assert hinted({"income", "万元"}, "CNY") == "10k CNY"
    assert hinted({"age", "months"}, "years") == "months"
    assert hinted({"months", "weeks"}, "years") == ""
    assert hinted({"kg"}, "years") == ""
    assert relatives("no unit") == []
