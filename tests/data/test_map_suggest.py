"""A draft of map.yaml: right where name and cells agree, silent about cells, open about what it cannot decide."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from fedprofile.data.contract_check import examine
from fedprofile.data.contract_file import parse_contract
from fedprofile.data.map_suggest import name_likeness, suggest, words
from fedprofile.data.table_map import parse_map
from fedprofile.errors import DataError

TODAY, N = date(2026, 11, 26), 300
BODY = {"missing": 0.5, "grade": 4, "class": "C2"}
CONTRACT = parse_contract(
    {
        "version": 1,
        "role": "clinic",
        "purpose": "p",
        "id": {"name": "patient", "pattern": "P[0-9]{4}"},
        "columns": {
            "AgeInYears": {"type": "integer", "unit": "years", "range": [18, 110], "aliases": ["年龄"], **BODY},
            "HeightCm": {"type": "number", "unit": "cm", "range": [120, 220], **BODY},
            "SystolicBloodPressure1": {"type": "number", "unit": "mmHg", "range": [60, 260], **BODY},
            "SystolicBloodPressure2": {"type": "number", "unit": "mmHg", "range": [60, 260], **BODY},
            "Income": {"type": "number", "unit": "CNY", "range": [0, 1e9], **BODY},
            "Gender": {"type": "category", "codes": ["Female", "Male"], "aliases": ["sex"], **BODY},
            "Updated": {"type": "date", "missing": 1, "grade": 2, "class": "C1"},
            "Insured": {"type": "integer", "range": [0, 1], **BODY},
        },
    }
)


def theirs(**columns: Any) -> pl.DataFrame:
    draw = np.random.default_rng(3)
    known = {
        "patient_no": [f"P{i:04d}" for i in range(N)],
        "年龄": draw.integers(18, 99, N).tolist(),
        "height": draw.uniform(1.5, 1.9, N).tolist(),
        "systolic_blood_pressure_2": draw.uniform(90, 180, N).tolist(),
        "sys_bp_1": draw.uniform(90, 180, N).tolist(),
        "income_wan": [f"{v:,.0f}" for v in draw.uniform(1, 9e3, N)],
        "sex": draw.choice(["F", "M"], N).tolist(),
        "updated": [f"{d}/11/2026" for d in draw.integers(13, 25, N)],
        "SECRET_REMARK": ["SECRET77"] * N,
    }
    return pl.DataFrame({**known, **columns})


def test_what_the_names_and_cells_tell_is_mapped() -> None:
    draft = suggest(theirs(), CONTRACT, "t", TODAY)
    assert draft.id == "patient_no"
    found = {name: reading.column for name, reading in draft.readings.items()}
    assert found == {
        "AgeInYears": "年龄",
        "HeightCm": "height",
        "SystolicBloodPressure2": "systolic_blood_pressure_2",
        "Income": "income_wan",
        "Gender": "sex",
        "Updated": "updated",
    }
    assert draft.readings["HeightCm"].unit == "m"
    assert (draft.readings["Income"].unit, draft.readings["Income"].thousands) == ("10k CNY", True)
    assert draft.readings["Gender"].codes == {"F": "Female", "M": "Male"}
    assert draft.readings["Updated"].date == "%d/%m/%Y"
    assert "sys_bp_1" in draft.notes["SystolicBloodPressure1"] or "no column" in draft.notes["SystolicBloodPressure1"]
    assert "no column" in draft.notes["Insured"]


def test_the_draft_is_a_map_as_soon_as_the_open_columns_are_named() -> None:
    draft = suggest(theirs(), CONTRACT, "t", TODAY)
    raw = yaml.safe_load(draft.to_yaml())
    with pytest.raises(DataError, match="not mapped"):
        parse_map(raw, CONTRACT)
    raw["columns"]["SystolicBloodPressure1"] = {"from": "sys_bp_1"}
    raw["absent"].append("Insured")
    table_map = parse_map(raw, CONTRACT)
    assert table_map.readings["Income"] == draft.readings["Income"]
    found = examine(theirs(), CONTRACT, table_map.readings, table_map.id, "t", TODAY)
    assert found.kept.all()


def test_no_cell_but_a_spelling_of_the_contracts_codes_is_written() -> None:
    frame = theirs(sex=["SECRET77", "female ", "ＭＡＬＥ"] * (N // 3))
    draft = suggest(frame, CONTRACT, "t", TODAY)
    assert "1 levels are no code" in draft.notes["Gender"]
    assert set(draft.readings["Gender"].codes.values()) == {"Female", "Male"}
    assert "SECRET77" not in draft.to_yaml()


def test_what_cannot_be_decided_is_said() -> None:
    either = suggest(theirs(updated=["01/02/2026"] * N), CONTRACT, "t", TODAY)
    assert "%d/%m/%Y or %m/%d/%Y" in either.notes["Updated"]
    assert either.readings["Updated"].date == ""
    odd = suggest(theirs(height=[5000.0] * N), CONTRACT, "t", TODAY)
    assert "100% of the cells do not fit" in odd.notes["HeightCm"]
    nested = suggest(theirs(height=[[1.0]] * N), CONTRACT, "t", TODAY)
    assert "no such cells" in nested.notes["HeightCm"]
    no_id = suggest(theirs().drop("patient_no"), CONTRACT, "t", TODAY)
    assert no_id.id == ""
    assert "write its name" in no_id.notes[""]
    headless = suggest(theirs().rename({"patient_no": "P0000"}), CONTRACT, "t", TODAY)
    assert "P0000" not in headless.to_yaml()
    alone = suggest(theirs().select("patient_no"), CONTRACT, "t", TODAY)
    assert (dict(alone.readings), alone.absent) == ({}, ("Updated",))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("SystolicBloodPres1StRdgMmHg", ("systolic", "blood", "pres", "1", "st", "rdg", "mm", "hg")),
        ("customer_no", ("customer", "no")),
        ("ID卡号", ("id", "卡号")),
        ("ｗｅｉｇｈｔ", ("weight",)),
        ("BMI2020", ("bmi", "2020")),
    ],
)
def test_words_of_a_name(name: str, found: tuple[str, ...]) -> None:
    assert words(name) == found


def test_a_number_in_the_name_tells_columns_apart() -> None:
    one, two = (CONTRACT.column(f"SystolicBloodPressure{i}") for i in (1, 2))
    assert name_likeness(one, "systolic_blood_pressure_1") == 1
    assert name_likeness(two, "systolic_blood_pressure_1") < 0.72
    assert name_likeness(CONTRACT.column("AgeInYears"), "age_in_months") >= 0.72
