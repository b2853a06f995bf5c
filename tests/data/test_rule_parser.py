"""The rule language: known answers, agreement with Python, and nothing but RuleError for any text."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedprofile.data.contract_rules import Rule, RuleError, rule_expr
from fedprofile.data.rule_parser import MAX_DEPTH, parse_rule

SORTS = {"a": "number", "b": "number", "60 Sec": "number", "city": "text", "seen": "date", "born": "date"}
ROWS = pl.DataFrame(
    {
        "a": [1.0, 5.0, None, 0.0],
        "b": [2.0, 2.0, 2.0, 0.0],
        "60 Sec": [60.0, 70.0, 80.0, None],
        "city": ["x", "y", None, "x"],
        "seen": [date(2026, 1, 1), date(2020, 1, 1), None, date(2026, 1, 1)],
        "born": [date(1990, 1, 1), date(2021, 1, 1), date(1990, 1, 1), None],
    }
)


def hits(never: str) -> list[bool | None]:
    return ROWS.select(rule_expr(parse_rule("r", never, SORTS).parsed)).to_series().to_list()


@pytest.mark.parametrize(
    ("never", "rows"),
    [
        ("a > b", [False, True, None, False]),
        ("a + 1 * 3 == 4", [True, False, None, False]),
        ("(a + 1) * 3 == 6", [True, False, None, False]),
        ("a - 1 - 1 == -1", [True, False, None, False]),
        ("a / b > 0.4", [True, True, None, None]),
        ("`60 Sec` >= 70", [False, True, True, None]),
        ("city == 'x' and a < 1", [False, False, None, True]),
        ("city in ('y', 'z') or a == 0", [False, True, None, True]),
        ("not city in ('y') and not a > 4", [True, False, None, True]),
        ("not not a > 4", [False, True, None, False]),
        ("a is missing", [False, False, True, False]),
        ("a is known and city != 'x'", [False, True, False, False]),
        ("seen < born", [False, True, None, None]),
        ("seen > '2025-12-31'", [True, False, None, True]),
        ("a in (1, -5)", [True, False, None, False]),
    ],
)
def test_known_answers(never: str, rows: list[bool | None]) -> None:
    assert hits(never) == rows


@pytest.mark.parametrize(
    ("never", "says"),
    [
        ("", "'the end' stands"),
        ("a", "compares nothing"),
        ("a >", "'the end' stands"),
        ("a > b c", "'c' stands where the expression should end"),
        ("a > c", "no column 'c'"),
        ("citi == 'x'", "Did you mean 'city'"),
        ("a > 'x'", "compares a number with a text"),
        ("city + 1 > 2", "joins a text and a number"),
        ("a > b > 1", "not a chain"),
        ("a and b", "joins a number and a number"),
        ("not a", "neither true nor false"),
        ("seen > 5", "compares a date with a number"),
        ("seen > '2026-13-01'", "not 'YYYY-MM-DD'"),
        ("a in ('x')", "needs a list"),
        ("a in (1", "')' is missing"),
        ("a is big", "COLUMN is missing"),
        ("(a + 1) is known", "COLUMN is missing"),
        ("a = b", "not understood"),
        ("__import__('os').system('x')", "sign 17 is not understood"),
        ("system('x') > 1", "no column 'system'"),
        ("1 < 2", "names no column"),
        ("a > 1; b > 1", "sign 6 is not understood"),
        ("- a > 1", "minus sign"),
        ("(" * (MAX_DEPTH + 1) + "a > 1" + ")" * (MAX_DEPTH + 1), "brackets inside"),
        ("a > 1" + " and a > 1" * 99, "longer than"),
    ],
)
def test_what_is_wrong_is_said(never: str, says: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule("r", never, SORTS)
    assert says in str(caught.value)


def test_a_rule_knows_its_columns() -> None:
    rule = parse_rule("r", "a > b and city in ('x')", SORTS)
    assert isinstance(rule, Rule)
    assert rule.columns == {"a", "b", "city"}


TOKENS = ["a", "b", "city", "seen", "1", "2.5", "'x'", "and", "or", "not", "in", "is", "missing", "(", ")", ",", "<",
          "==", "+", "-", "*", "/", "`60 Sec`", "'2026-01-01'"]  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(TOKENS), max_size=14).map(" ".join)))
def test_any_text_is_parsed_and_computed_or_refused(text: str) -> None:
    try:
        rule = parse_rule("r", text, SORTS)
    except RuleError:
        return
    assert ROWS.select(rule_expr(rule.parsed)).to_series().dtype == pl.Boolean


numbers = st.recursive(
    st.one_of(st.sampled_from(["a", "b"]), st.integers(0, 9).map(str)),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=5,
)
truths = st.recursive(
    st.tuples(numbers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda t: f"(not ({t}))"),
    ),
    max_leaves=4,
)


@given(truths, st.integers(-3, 3), st.integers(-3, 3))
def test_it_means_what_python_means(text: str, a: int, b: int) -> None:
    assume(len(text) <= 300 and ("a" in text.replace("and", "") or "b" in text))
    row = pl.DataFrame({"a": [float(a)], "b": [float(b)]})
    found = row.select(rule_expr(parse_rule("r", text, SORTS).parsed)).to_series().to_list()
    assert found[-1] == eval(text, {"a": a, "b": b})
