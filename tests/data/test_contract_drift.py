"""PSI: known answers, no alarm by chance, an alarm for a table that is another one."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.data.contract_drift import drift, from_json, histograms, psi, to_json
from fedprofile.data.contract_file import parse_contract

CONTRACT = parse_contract(
    {
        "version": 1,
        "role": "shop",
        "purpose": "p",
        "id": {"name": "customer"},
        "columns": {
            "spend": {"type": "number", "missing": 0.5, "grade": 3, "class": "C2"},
            "city": {"type": "category", "missing": 0.5, "grade": 3, "class": "C2"},
            "seen": {"type": "date", "missing": 1, "grade": 2, "class": "C1"},
        },
    }
)


def table(seed: int, n: int, mean: float = 0.0, north: float = 0.5) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    city = np.where(draw.random(n) < north, "north", "south")
    spend = [None if gone else float(v) for v, gone in zip(draw.normal(mean, 1, n), draw.random(n) < 0.1, strict=True)]
    return pl.DataFrame({"spend": spend, "city": city, "seen": [None] * n})


def test_psi_by_hand() -> None:
    # half a row in each bin: (.5, .5) against (.25, .75) in the limit of many rows
    exact = 0.25 * math.log(2) + 0.25 * math.log(1.5)
    assert psi([50_000, 50_000], [25_000, 75_000]) == pytest.approx(exact, abs=1e-4)
    assert psi([10, 20, 0], [10, 20, 0]) == 0


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12), st.integers(1, 1000))
def test_psi_is_never_negative_and_symmetric(counts: list[int], other: int) -> None:
    moved = [*counts[1:], other]
    assert psi(counts, moved) >= 0
    assert psi(counts, moved) == pytest.approx(psi(moved, counts))


@pytest.mark.parametrize("n", [60, 400, 3000])
def test_the_same_population_does_not_alarm(n: int) -> None:
    over = 0
    for seed in range(10):
        found = drift(histograms(table(seed, n), CONTRACT), table(1000 + seed, n))
        over += sum(d.over(0.25) for d in found.values())
    assert over == 0


def test_a_changed_column_alarms_and_only_it() -> None:
    before = histograms(table(1, 2000), CONTRACT)
    assert set(before) == {"spend", "city"}
    shifted = drift(before, table(2, 2000, mean=1.0))
    assert (shifted["spend"].over(0.25), shifted["city"].over(0.25)) == (True, False)
    moved = drift(before, table(2, 2000, north=0.95))
    assert (moved["spend"].over(0.25), moved["city"].over(0.25)) == (False, True)
    gone = table(3, 2000).with_columns(spend=pl.lit(None, dtype=pl.Float64))
    assert drift(before, gone)["spend"].over(0.25)
    new = table(4, 2000).with_columns(city=pl.lit("elsewhere"))
    assert drift(before, new)["city"].over(0.25)


def test_an_empty_or_constant_column_has_a_histogram() -> None:
    flat = pl.DataFrame({"spend": [1.0] * 9, "city": [None] * 9}, schema={"spend": pl.Float64, "city": pl.String})
    found = drift(histograms(flat, CONTRACT), flat)
    assert [d.psi for d in found.values()] == [0, 0]
    assert drift(histograms(flat, CONTRACT), flat.clear()) == {}


def test_histograms_are_kept_as_json_and_show_no_value() -> None:
    held = histograms(table(1, 500), CONTRACT)
    assert from_json(json.loads(json.dumps(to_json(held)))) == held
    assert "north" not in repr(held)
    assert held["spend"].n == 500
