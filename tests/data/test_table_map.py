"""map.yaml: checked against the contract, every column accounted for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fedprofile.data.contract_file import parse_contract
from fedprofile.data.table_map import parse_map, same_names
from fedprofile.errors import DataError

CONTRACT = parse_contract(
    {
        "version": 1,
        "role": "shop",
        "purpose": "p",
        "id": {"name": "customer"},
        "columns": {
            "age": {"type": "integer", "unit": "years", "grade": 3, "class": "C2"},
            "orders": {"type": "number", "grade": 3, "class": "C2"},
            "city": {"type": "category", "codes": ["Beijing", "Shanghai"], "grade": 3, "class": "C2"},
            "seen": {"type": "date", "grade": 3, "class": "C2"},
        },
    }
)
GOOD: dict[str, Any] = {
    "format": 1,
    "id": "kunde",
    "columns": {
        "age": {"from": "alter", "unit": "months", "round": "down", "missing": [0, "-"]},
        "city": {"from": "stadt", "codes": {1: "Beijing", "sh": "Shanghai"}},
        "seen": {"from": "am", "date": "%d/%m/%Y"},
    },
    "absent": ["orders"],
}


def changed(column: str, **entry: Any) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    raw["columns"][column] = {"from": "x", **entry}
    return raw


def test_a_map_is_read_as_written() -> None:
    found = parse_map(GOOD, CONTRACT)
    assert found.columns == ("kunde", "alter", "stadt", "am")
    age = found.readings["age"]
    assert (age.unit, age.round, age.missing) == ("months", "down", ("0", "-"))
    assert found.readings["city"].codes == {"1": "Beijing", "sh": "Shanghai"}
    assert "orders" not in found.readings
    assert len(found.root) == 32
    assert parse_map(changed("age"), CONTRACT).root != found.root


BAD = {
    "a list": ([], "not a mapping"),
    "no id": ({k: v for k, v in GOOD.items() if k != "id"}, "lacks the key 'id'"),
    "misspelt": ({**GOOD, "absnt": []}, "Did you mean 'absent'"),
    "strange column": ({**GOOD, "columns": {**GOOD["columns"], "agee": {"from": "x"}}}, "Did you mean 'age'"),
    "strange absent": ({**GOOD, "absent": ["order"]}, "Did you mean 'orders'"),
    "forgotten": ({**GOOD, "absent": []}, "not mapped"),
    "both": ({**GOOD, "absent": ["orders", "age"]}, "mapped, and named as absent"),
    "no from": ({**GOOD, "columns": {**GOOD["columns"], "age": {"unit": "years"}}}, "lacks the key 'from'"),
    "misspelt key": (changed("age", unti="months"), "Did you mean 'unit'"),
    "unit of nothing": (changed("age", unit="kg"), "no way from 'kg' to 'years'"),
    "unknown unit": (changed("age", unit="moons"), "Units: years, months"),
    "codes of a number": (changed("age", codes={"a": "b"}), "does not go with type integer"),
    "unit of a category": (changed("city", unit="kg"), "does not go with type category"),
    "strange code": (changed("city", codes={"b": "Bejing"}), "Did you mean 'Beijing'"),
    "code no": (changed("city", codes={False: "Beijing"}), "quote yes, no"),
    "codes of a list": (changed("city", codes=["Beijing"]), "not a mapping"),
    "missing": (changed("age", missing="9"), "not a list"),
    "date without a year": (changed("seen", date="%d/%m/%y"), "no form of a date"),
    "date of the locale": (changed("seen", date="%Y %B %d"), "no form of a date"),
    "hour without minutes": (changed("seen", date="%Y-%m-%d %H"), "no form of a date"),
    "seconds without a time": (changed("seen", date="%Y-%m-%d %S"), "no form of a date"),
    "date of a number": (changed("age", date="%Y"), "does not go with type integer"),
    "round": (changed("age", round="up"), "neither down nor nearest"),
    "thousands": (changed("age", thousands="yes"), "neither true nor false"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str) -> None:
    raw, says = BAD[case]
    with pytest.raises(DataError) as caught:
        parse_map(raw, CONTRACT)
    assert says in str(caught.value)
    assert caught.value.mend


def test_a_column_without_a_unit_takes_none() -> None:
    raw = copy.deepcopy(GOOD)
    raw["columns"]["orders"], raw["absent"] = {"from": "x", "unit": "kg"}, []
    with pytest.raises(DataError, match="Leave the unit out"):
        parse_map(raw, CONTRACT)


def test_the_map_of_a_table_that_has_the_contracts_names() -> None:
    found = same_names(CONTRACT, ["customer", "age", "city", "other"])
    assert found.columns == ("customer", "age", "city")
