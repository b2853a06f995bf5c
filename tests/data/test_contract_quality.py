"""The data-quality figure: each kind of fake or stale record lowers its part, and the figure is their product."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from fedprofile.data.contract_check import Examined, examine
from fedprofile.data.contract_file import parse_contract
from fedprofile.data.contract_quality import PARTS, quality
from fedprofile.data.table_map import same_names

TODAY, N = date(2026, 11, 26), 1000
NUMBERS = ["weight", "height", "waist", "pulse", "sugar", "lead"]
CONTRACT = parse_contract(
    {
        "version": 1,
        "role": "clinic",
        "purpose": "p",
        "id": {"name": "patient"},
        "columns": {
            **{c: {"type": "number", "range": [0, 500], "missing": 0.2, "grade": 4, "class": "C2"} for c in NUMBERS},
            "visits": {
                "type": "integer",
                "range": [0, 999],
                "missing": 0.2,
                "even_digits": True,
                "grade": 4,
                "class": "C2",
            },
            "seen": {"type": "date", "max_age_days": 100, "missing": 1, "grade": 2, "class": "C1"},
        },
        "rules": {"no_waist": "waist > weight + 400"},
    }
)


def clean() -> pl.DataFrame:
    draw = np.random.default_rng(5)
    columns: dict[str, Any] = {c: draw.uniform(0, 90, N).round(4) for c in NUMBERS}
    columns["visits"] = draw.integers(10, 900, N)
    columns["seen"] = [TODAY - timedelta(days=int(d)) for d in draw.integers(0, 99, N)]
    return pl.DataFrame({"patient": [f"P{i}" for i in range(N)], **columns})


def score(frame: pl.DataFrame) -> dict[str, float | None]:
    same = same_names(CONTRACT, frame.columns)
    found: Examined = examine(frame, CONTRACT, same.readings, same.id, "t", TODAY)
    result = quality(found, CONTRACT)
    judged = [v for k in PARTS if (v := result[k]) is not None]
    assert result["figure"] == pytest.approx(math.prod(judged), abs=5e-4)
    assert all(0 <= v <= 1 for v in judged)
    return result


def first(n: int, value: pl.Expr, column: str) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) < n).then(value).otherwise(pl.col(column)).alias(column)


def test_a_clean_table_scores_one() -> None:
    assert score(clean())["figure"] == 1


@pytest.mark.parametrize(
    ("part", "spoil", "value"),
    [
        ("validity", first(100, pl.lit(9999.0), "weight"), 0.9),
        ("consistency", first(200, pl.lit(495.0), "waist"), 0.8),
        ("freshness", first(250, pl.lit(date(2019, 1, 1)), "seen"), 0.75),
        ("freshness", first(250, pl.lit(date(2030, 1, 1)), "seen"), 0.75),
        ("completeness", first(600, pl.lit(None), "height"), (7 + 0.5) / 8),
        ("variation", pl.lit(7.0).alias("sugar"), 6 / 7),
    ],
)
def test_each_doubt_lowers_its_own_part(part: str, spoil: pl.Expr, value: float) -> None:
    found = score(clean().with_columns(spoil))
    assert found[part] == pytest.approx(value, abs=1e-3)
    assert [k for k in PARTS if found[k] != 1] == [part]


def test_copied_records_and_repeated_ids() -> None:
    frame = clean()
    invented = frame.with_columns(first(300, pl.col(c).last(), c) for c in [*NUMBERS, "visits"])
    assert score(invented)["uniqueness"] == pytest.approx(0.7, abs=1e-3)
    twice = pl.concat([frame, frame.head(250)])
    assert score(twice)["uniqueness"] == pytest.approx(0.8)
    contradicting = frame.with_columns(first(2, pl.lit("P7"), "patient"))
    assert score(contradicting)["uniqueness"] == pytest.approx(0.997)


def test_few_known_values_are_no_proof_of_copying() -> None:
    frame = clean().with_columns(first(150, pl.lit(None), c) for c in NUMBERS[2:])
    same = frame.with_columns(first(150, pl.lit(50.0), c) for c in NUMBERS[:2])
    assert score(same)["uniqueness"] == 1


def test_heaped_digits_look_invented() -> None:
    heaped = clean().with_columns((pl.col("visits") // 10 * 10).alias("visits"))
    assert score(heaped)["digits"] == pytest.approx(0.1 + 2 / math.sqrt(N), abs=0.01)
    half = clean().with_columns((pl.col("visits") // 5 * 5).alias("visits"))
    assert score(half)["digits"] == pytest.approx(0.2 + 2 / math.sqrt(N), abs=0.04)


def test_what_cannot_be_judged_is_none_and_an_empty_table_is_worth_nothing() -> None:
    found = score(clean().head(50).with_columns(seen=pl.lit(None, dtype=pl.Date)))
    assert (found["freshness"], found["variation"], found["digits"]) == (None, None, None)
    assert found["figure"] == 1
    none = quality(Examined(np.array([], dtype=np.str_), pl.DataFrame(), {}), CONTRACT)
    assert none["figure"] == 0
