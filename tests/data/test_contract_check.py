"""Rows and their reasons: duplicates never change what is kept, and the kept table does not depend on row order."""

from __future__ import annotations

import random
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedprofile.data.contract_check import Examined, Reason, examine, missing_shares, reason_counts
from fedprofile.data.contract_file import parse_contract
from fedprofile.data.federation import table_digest
from fedprofile.data.table_map import same_names

CONTRACT = parse_contract(
    {
        "version": 1,
        "role": "shop",
        "purpose": "p",
        "id": {"name": "customer", "pattern": "[A-C][0-9]"},
        "columns": {
            "spend": {"type": "number", "range": [0, 5], "missing": 0.5, "grade": 3, "class": "C2"},
            "city": {"type": "category", "codes": ["x", "y"], "grade": 3, "class": "C2"},
            "seen": {"type": "date", "missing": 1, "grade": 2, "class": "C1"},
        },
        "rules": {"rich_x": "spend > 4 and city == 'x'"},
    }
)
ROW = st.tuples(
    st.sampled_from(["A1", "a1", "Ａ1", "B2", "C3", "", "D4"]),
    st.sampled_from(["1", "4.5", "9", "x", None]),
    st.sampled_from(["x", "y", "z", None]),
)


def check(rows: list[tuple[Any, ...]]) -> Examined:
    frame = pl.DataFrame(rows, schema={"customer": pl.String, "spend": pl.String, "city": pl.String}, orient="row")
    frame = frame.with_columns(customer=pl.when(pl.col("customer") != "").then("customer"))
    same = same_names(CONTRACT, frame.columns)
    return examine(frame, CONTRACT, same.readings, same.id, "t", date(2026, 11, 26))


@settings(max_examples=40, deadline=None)
@example([("C3", "9", "x"), ("C3", None, "x")], random.Random(1))
@example([("C3", None, "x"), ("C3", "9", "x")], random.Random(1))
@given(st.lists(ROW, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_kept_table_is_free_of_order_and_of_repeats(rows: list[tuple[Any, ...]], shuffle: Any) -> None:
    found = check(rows)
    kept = found.table(CONTRACT)
    assert len(set(kept.ids)) == len(kept.ids)
    assert list(kept.ids) == sorted(kept.ids)
    again = [*rows, rows[0]]
    shuffle.shuffle(again)
    assert table_digest(check(again).table(CONTRACT)) == table_digest(kept)
    assert sum(found.kept) + sum(found.flagged(tuple(found.reasons))) == len(rows)


def test_every_reason_is_counted_and_one_row_may_have_several() -> None:
    found = check([("A1", "9", "z"), ("B2", "4.5", "x"), ("C3", "1", "y"), ("D4", "1", "y"), ("", "1", "y")])
    assert reason_counts(found) == [
        {"code": "above_range", "column": "spend", "rows": 1},
        {"code": "id_format", "column": "customer", "rows": 1},
        {"code": "id_missing", "column": "customer", "rows": 1},
        {"code": "impossible", "column": "rich_x", "rows": 1},
        {"code": "unknown_code", "column": "city", "rows": 1},
    ]
    assert found.reasons[Reason("id_missing", "customer")].tolist() == [False] * 4 + [True]
    assert found.table(CONTRACT).ids.tolist() == ["C3"]
    assert list(found.table(CONTRACT).columns) == ["spend", "city"]
    assert missing_shares(found) == {"spend": 0, "city": 0, "seen": 1}


def test_a_table_of_which_nothing_is_left() -> None:
    found = check([("", "9", None)])
    assert not found.kept.any()
    assert len(found.table(CONTRACT)) == 0
    assert all(np.isnan(share) for share in missing_shares(found).values())
