"""Cells as the map and the contract say they are written: parsed, converted, or refused by a fixed code."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.data.contract import Column
from fedprofile.data.contract_cells import Reading, date_shape, read_cells
from fedprofile.data.reading import tidy
from fedprofile.errors import DataError

TODAY = date(2026, 11, 26)


def read(cells: list[Any], column: Column, dtype: Any = None, **how: Any) -> list[Any]:
    """Value of each cell, or its reason in brackets."""
    values, reasons = read_cells(pl.Series("theirs", cells, dtype=dtype), column, Reading("theirs", **how), "t", TODAY)
    assert not (values.is_not_null() & reasons.is_not_null()).any()
    return [f"[{r}]" if r else v for v, r in zip(values.to_list(), reasons.to_list(), strict=True)]


def number(type_: Any = "number", **rest: Any) -> Column:
    return Column("x", type_, 3, "C2", **{"missing": 1.0, **rest})


def test_numbers_are_taken_as_written() -> None:
    cells = ["1", "-2.50", "+3", ".5", "5.", "1e3", "1E-2", None]
    assert read(cells, number()) == [1, -2.5, 3, 0.5, 5, 1000, 0.01, None]


def test_a_required_cell_that_is_empty_is_a_reason() -> None:
    assert read([None, "1", "9"], number(missing=0.0, unknown=("9",))) == ["[missing]", 1, "[missing]"]


def test_unknown_means_missing_however_it_is_written() -> None:
    assert read(["999", "999.0", "998", "-"], number(unknown=("999",)), missing=("-",)) == [None, None, 998, None]
    assert read(["n/k", "7"], number(unknown=("n/k",))) == [None, 7]
    assert read([999.0, 998.0], number(unknown=("999",))) == [None, 998]
    assert read(["9", "refused", "yes"], Column("c", "category", 3, "C2", codes=("yes",), unknown=("9",), missing=1.0),
                missing=("refused",)) == [None, None, "yes"]  # fmt: skip


@pytest.mark.parametrize("name", ["value", "reason", "v", "r", "t"])
def test_a_column_may_have_any_name(name: str) -> None:
    for missing, first in ((1.0, None), (0.0, "missing")):
        column = Column(name, "integer", 3, "C2", missing=missing, low=0)
        values, reasons = read_cells(pl.Series(name, [None, "1", "-1"]), column, Reading(name), "t", TODAY)
        assert (values.name, values.to_list()) == (name, [None, 1, None])
        assert reasons.to_list() == [first, None, "below_range"]


def test_units_are_converted_before_the_range_is_judged() -> None:
    years = number("integer", unit="years", low=18, high=120)
    assert read(["216", "245", "120"], years, unit="months") == [18, "[not_whole]", "[below_range]"]
    assert read(["245", "1441"], years, unit="months", round="down") == [20, 120]
    assert read(["29"], number("integer", unit="years"), unit="months", round="nearest") == [2]
    assert read(["1.2", "1,000.5"], number(unit="CNY"), unit="10k CNY", thousands=True) == [12_000, 10_005_000]
    known = number("integer", unit="years", unknown=("99",))
    assert read(["99", "1188"], known, unit="months", missing=("1188",), round="down") == [8, None]
    inches = number(unit="cm", low=100, high=254)
    assert read(["100", "100.01"], inches, unit="in") == [254, "[above_range]"]


def test_typed_columns_lose_nothing() -> None:
    assert read([1, 2**53 + 1, None], number("integer")) == [1, "[too_large]", None]
    assert read([1.5, float("nan"), float("inf")], number()) == [1.5, None, "[infinite]"]
    assert read([True, False, None], number("integer", low=0, high=1)) == [1, 0, None]
    level = Column("c", "category", 3, "C2", codes=("1", "2"), missing=1.0)
    assert read([1.0, 2.0, 3.0], level) == ["1", "2", "[unknown_code]"]


def test_codes_are_translated_and_nothing_else_is_guessed() -> None:
    sex = Column("sex", "category", 3, "C2", codes=("Female", "Male"), missing=1.0)
    assert read(["F", "Male", "f", "W"], sex, codes={"F": "Female", "W": "Female"}) == [
        "Female",
        "Male",
        "[unknown_code]",
        "Female",
    ]


def test_dates_follow_the_one_form_that_is_declared() -> None:
    seen = Column("seen", "date", 2, "C1", missing=1.0, max_age_days=400)
    day = date(2026, 11, 1)
    assert read(["2026-11-01", "2026-11-01T23:59:00Z", "2026-11-01 08:00"], seen) == [day] * 3
    assert read(["01/11/2026", "1/11/2026", "11-01-2026"], seen, date="%d/%m/%Y") == [day, day, "[not_a_date]"]
    assert read(["1/11/26", "2026-11-01"], seen, date="%d/%m/%Y") == ["[not_a_date]"] * 2
    assert read(["20261101", "2026年11月1日"], seen, date="%Y%m%d")[1] == "[not_a_date]"
    assert read(["2026年11月1日"], seen, date="%Y年%m月%d日") == [day]
    assert read(["01.11.2026 08:30"], seen, date="%d.%m.%Y %H:%M") == [day]
    assert read([date(2026, 11, 27), date(2025, 10, 22), date(2025, 10, 21)], seen) == [
        "[in_future]",
        date(2025, 10, 22),
        "[stale]",
    ]
    until = Column("until", "date", 2, "C1", missing=1.0, low="2026-01-01", high="2030-12-31")
    assert read(["2029-01-01", "2031-01-01", "2025-12-31"], until) == [
        date(2029, 1, 1),
        "[above_range]",
        "[below_range]",
    ]


def test_the_shape_of_a_date_form() -> None:
    assert date_shape("%d/%m/%Y") == "^[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}$"
    assert date_shape("%Y.%m.%d") == r"^[0-9]{4}\.[0-9]{1,2}\.[0-9]{1,2}$"


@given(st.lists(st.text(max_size=12), min_size=1, max_size=20))
def test_a_text_is_a_number_exactly_where_it_is_written_as_one(cells: list[str]) -> None:
    plain = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
    for cell, found in zip(cells, read(cells, number(), pl.String), strict=True):
        if plain.fullmatch(cell):
            assert found == (float(cell) if abs(float(cell)) != float("inf") else "[infinite]")
        else:
            assert isinstance(found, str)


SERIES = {
    **{str(t): pl.Series([1, 0, None], dtype=t) for t in (pl.Int8, pl.UInt8, pl.Int64, pl.UInt64, pl.Int128)},
    **{str(t): pl.Series([1, 0, None], dtype=t) for t in (pl.Float32, pl.Float64, pl.Decimal(9, 2))},
    "bool": pl.Series([True, False, None]),
    "text": pl.Series(["1", "0", None]),
    "categorical": pl.Series(["1", "0", None], dtype=pl.Categorical),
    "null": pl.Series([None, None, None]),
    "date": pl.Series([TODAY, None, TODAY]),
    "moment": pl.Series([datetime(2026, 1, 1), None, None]),
    "moment with zone": pl.Series([datetime(2026, 1, 1), None, None]).dt.replace_time_zone("Asia/Shanghai"),
    "time": pl.Series([datetime(2026, 1, 1), None, None]).dt.time(),
    "duration": pl.Series([timedelta(1), None, None]),
    "list": pl.Series([[1], None, None]),
    "struct": pl.Series([{"a": 1}, None, None]),
    "bytes": pl.Series([b"1", None, None]),
}
FITS = {"number": 12, "integer": 12, "category": 12, "date": 4}


@pytest.mark.parametrize("type_", FITS)
def test_every_type_of_column_is_read_or_refused_as_a_whole(type_: Any) -> None:
    column, read_ = Column("x", type_, 3, "C2", missing=1.0), []
    for name, stored in SERIES.items():
        raw = tidy(pl.DataFrame({"theirs": stored}))["theirs"]
        try:
            values, reasons = read_cells(raw, column, Reading("theirs"), "t", TODAY)
        except DataError:
            continue
        assert len(values) == len(reasons) == 3
        wanted = {"number": pl.Float64, "integer": pl.Float64, "category": pl.String, "date": pl.Date}[type_]
        assert values.dtype == wanted
        if not reasons.is_not_null().any():
            read_.append(name)
    assert len(read_) == FITS[type_], read_
