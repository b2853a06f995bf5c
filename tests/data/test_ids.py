"""Ids: one normal form for all parties, and id columns that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.data.ids import check_ids, normalise_id, normalise_ids
from fedprofile.errors import DataError


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise_id(text)
    assert normalise_id(once) == once
    assert normalise_id(f" {text}\u3000") == once


def test_the_rule() -> None:
    raw = ["Ｃ０１２３", " c0123\t", "C\u200b0123", "\ufeffc0123", "C 01-23", "００7"]
    assert normalise_ids(raw).tolist() == ["C0123"] * 4 + ["C 01-23", "007"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (["1.0", "22.0"], ["1", "22"]),
        (["007", "7"], ["007", "7"]),
        # National identity numbers end in a digit or X.
        (["11010519491231002x", "110105194912310021"], ["11010519491231002X", "110105194912310021"]),
        # Hex tokens of digits only, or that look like 1E10.
        (["1234567890ab", "123456789012", "1e3456789012"], ["1234567890AB", "123456789012", "1E3456789012"]),
        (["+861370", "+861371"], ["+861370", "+861371"]),
    ],
)
def test_good_id_columns(raw: list[str], expected: list[str]) -> None:
    assert check_ids(raw, "f", "id").tolist() == expected


@pytest.mark.parametrize(
    ("raw", "says", "count"),
    [
        (["A", None, " "], "missing", 2),
        (["1", "2", "abc"], "mixed", 1),
        (["1.0", "abc", "def"], "mixed", 1),
        (["1.5", "2"], "fractional", 1),
        (["1.1e17", "3"], "scientific", 1),
        (["a", "A", "Ａ"], "duplicate", 2),
        (["1.0", "1"], "duplicate", 1),
    ],
)
def test_bad_id_columns(raw: list[str | None], says: str, count: int) -> None:
    with pytest.raises(DataError, match=says) as caught:
        check_ids(raw, "f", "id")
    assert (caught.value.file, caught.value.column, caught.value.count) == ("f", "id", count)
