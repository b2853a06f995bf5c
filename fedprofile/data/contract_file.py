"""contract.yaml, format 1: every key, name and number checked before a table is opened.

::

    format: 1
    version: 1
    role: medical
    purpose: customer tiering and product propensity
    id: {name: customer, pattern: "[A-Z0-9]{8}"}
    columns:
      WeightKg: {type: number, unit: kg, range: [20, 400], missing: 0.1, grade: 4, class: C2}
      Smokes: {type: category, codes: [never, sometimes, daily], unknown: ["9"], grade: 3, class: C2}
      Updated: {type: date, max_age_days: 400, missing: 1, grade: 2, class: C1}
    rules:
      no_weight: WeightKg < 30 and Smokes == 'daily'
    limits: {quarantined: 0.05, drift: 0.25, min_rows: 256, quality: 0.8}
"""

from __future__ import annotations

import math
import re
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, cast

from fedprofile.data.contract import LEAST_GRADE, TYPES, Column, ColumnType, Contract, IdRule, Limits
from fedprofile.data.contract_rules import Rule, RuleError, Sort, parse_rule
from fedprofile.data.reading import nearest
from fedprofile.data.units import UNITS
from fedprofile.data.yaml_file import mapping, read_yaml, text
from fedprofile.errors import DataError, UsageError

FILE = "contract.yaml"
PARTNERS = "fedprofile.partners"
_COLUMN = ("unit", "range", "codes", "unknown", "missing", "max_age_days", "changes_days", "even_digits", "aliases")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
# The frame's library reads a leading ^ as a pattern, and * as every column.
_COLUMN_NAME = re.compile(r"\w[^\x00-\x1f]{0,63}")
_NUMBER_ONLY, _DATE_ONLY, _FEATURE_ONLY = {"even_digits"}, {"max_age_days"}, {"changes_days"}


def read_contract(path: Path) -> Contract:
    """The checked contract of a file; DataError names the key, the column and the mend."""
    return parse_contract(read_yaml(path, path.name), path.name)


def shipped_contract(role: str) -> Contract:
    """The contract that the package ships for a role; UsageError for a role without one."""
    roles = shipped_roles()
    if role not in roles:
        mend = nearest(role, roles) or f"Shipped: {', '.join(roles)}. Another role writes its own {FILE}."
        raise UsageError(f"no contract is shipped for the role {role!r}", mend)
    with resources.as_file(resources.files(PARTNERS).joinpath(role, FILE)) as path:
        return read_contract(path)


def shipped_roles() -> list[str]:
    """The roles that the package ships a contract for, sorted."""
    folders = resources.files(PARTNERS).iterdir()
    return sorted(f.name for f in folders if f.is_dir() and f.joinpath(FILE).is_file())


def parse_contract(raw: Any, file: str = FILE) -> Contract:
    """A Contract of the mapping that the file holds."""
    top = mapping(raw, file, "the file", ("version", "role", "purpose", "id", "columns"), ("format", "rules", "limits"))
    if top.get("format", 1) != 1 or isinstance(top.get("format"), bool):
        raise DataError(file, "`format` is not 1", "Write `format: 1`; this version reads no other.")
    version = top["version"]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DataError(file, "`version` is not a whole number from 1", "Count it up with every agreed change.")
    role = text(top["role"], file, "role")
    if not _NAME.fullmatch(role):
        raise DataError(file, "`role` is no valid name", "Use a letter, then letters, digits, - and _ (ASCII).")
    columns = _columns(top["columns"], file)
    id_rule = _id(top["id"], file)
    if id_rule.name in {c.name for c in columns}:
        raise DataError(file, "the id column is listed under `columns`", "Take it out.", column=id_rule.name)
    rules = _rules(top.get("rules"), columns, file)
    purpose = text(top["purpose"], file, "purpose")
    return Contract(version, role, purpose, id_rule, columns, rules, _limits(top.get("limits"), file))


def _id(value: Any, file: str) -> IdRule:
    entry = mapping(value, file, "`id`", ("name",), ("pattern",))
    pattern = entry.get("pattern", "")
    if not isinstance(pattern, str) or not _compiles(pattern):
        raise DataError(file, "the pattern of `id` is no regular expression", 'Quote it, such as "[0-9]{8}".')
    return IdRule(text(entry["name"], file, "id.name"), pattern)


def _compiles(pattern: str) -> bool:
    """By the engine that will use it: one without back references, linear in the cell's length."""
    import polars as pl

    try:
        pl.Series([""]).str.contains(f"^(?:{pattern})$")
    except pl.exceptions.PolarsError:
        return False
    return True


def _columns(value: Any, file: str) -> tuple[Column, ...]:
    if not isinstance(value, dict) or not value:
        raise DataError(file, "`columns` is not a mapping of names", "Write one `name: {type: …}` a line below it.")
    for name in value:
        if not _COLUMN_NAME.fullmatch(text(name, file, "columns")):
            mend = "Begin with a letter or digit; at most 64 characters, none of them a control character."
            raise DataError(file, f"{str(name)[:80]!r} is no valid name of a column", mend)
    columns = tuple(_column(str(name).strip(), entry, file) for name, entry in value.items())
    if all(c.type == "date" for c in columns):
        raise DataError(file, "no column is a feature", "Dates serve freshness and rules only: add another column.")
    return columns


def _column(name: str, value: Any, file: str) -> Column:
    entry = mapping(value, file, f"column {name!r}", ("type", "grade", "class"), _COLUMN)

    def wrong(what: str, mend: str) -> DataError:
        return DataError(file, what, mend, column=name)

    type_ = entry["type"]
    if type_ not in TYPES:
        raise wrong("unknown type", nearest(str(type_), list(TYPES)) or f"Types: {', '.join(TYPES)}.")
    grade, sensitivity = entry["grade"], entry["class"]
    if isinstance(grade, bool) or grade not in (1, 2, 3, 4, 5):
        raise wrong("`grade` is not 1 to 5", "Use the level of JR/T 0197-2020.")
    if sensitivity not in LEAST_GRADE:
        raise wrong("`class` is not C1, C2 or C3", "Use the class of JR/T 0171-2020.")
    if grade < LEAST_GRADE[sensitivity]:
        raise wrong(f"{sensitivity} data has a grade below {LEAST_GRADE[sensitivity]}", "Raise the grade.")
    numeric = type_ in ("number", "integer")
    misplaced = {"codes"} if type_ != "category" else {"range", "unit"}
    misplaced |= (set() if numeric else _NUMBER_ONLY) | (_FEATURE_ONLY if type_ == "date" else _DATE_ONLY)
    for key in entry:
        if key in misplaced or (key == "unit" and not numeric):
            raise wrong(f"`{key}` does not go with type {type_}", "Take it out, or correct the type.")
    unit = "" if entry.get("unit") is None else text(entry["unit"], file, f"{name}.unit")
    if unit and unit not in UNITS:
        raise wrong(f"unknown unit {unit!r}", nearest(unit, list(UNITS)) or f"Units: {', '.join(UNITS)}.")
    low, high = _range(entry.get("range"), cast(ColumnType, type_), wrong)
    missing = _share(entry.get("missing", 0), wrong, "missing")
    for key in ("max_age_days", "changes_days"):
        if (days := entry.get(key)) is not None and (isinstance(days, bool) or not isinstance(days, int) or days < 1):
            raise wrong(f"`{key}` is not a whole number from 1", "Write a number of days.")
    if not isinstance(entry.get("even_digits", False), bool):
        raise wrong("`even_digits` is neither true nor false", "Write true, or leave it out.")
    return Column(
        name,
        cast(ColumnType, type_),
        grade,
        sensitivity,
        unit,
        low,
        high,
        _list(entry.get("codes"), wrong, "codes"),
        _list(entry.get("unknown"), wrong, "unknown"),
        missing,
        entry.get("max_age_days"),
        entry.get("changes_days"),
        entry.get("even_digits", False),
        _list(entry.get("aliases"), wrong, "aliases"),
    )


def _range(value: Any, type_: ColumnType, wrong: Any) -> tuple[float | str | None, float | str | None]:
    if value is None:
        return None, None
    if not isinstance(value, list) or len(value) != 2:
        raise wrong("`range` is not [low, high]", "Write both ends; null leaves one open.")
    ends: list[Any] = [_date(v) if type_ == "date" else _number(v) for v in value]
    if any(e is False for e in ends):
        kind = "dates YYYY-MM-DD" if type_ == "date" else "numbers"
        raise wrong(f"the ends of `range` are not {kind}", "Correct them; null leaves one open.")
    if None not in ends and ends[0] > ends[1]:
        raise wrong("`range` ends before it starts", "Write [low, high].")
    return ends[0], ends[1]


def _number(value: Any) -> Any:
    """None as it is, a finite number as float, anything else False."""
    if value is None:
        return None
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits else False


def _date(value: Any) -> Any:
    if value is None:
        return None
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        return False


def _share(value: Any, wrong: Any, key: str) -> float:
    number = _number(value)
    if number is None or number is False or not 0 <= number <= 1:
        raise wrong(f"`{key}` is not a share from 0 to 1", "Write 0.1 for a tenth.")
    return float(number)


def _list(value: Any, wrong: Any, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    fits = isinstance(value, list) and value and all(isinstance(v, str | int | float) for v in value)
    if not fits or any(isinstance(v, bool) for v in value):
        raise wrong(f"`{key}` is not a list of texts", "Write [a, b]; quote words such as yes, no and on.")
    items = tuple(str(v).strip() for v in value)
    if len(set(items)) < len(items):
        raise wrong(f"`{key}` lists an item twice", "Keep one.")
    return items


def _rules(value: Any, columns: tuple[Column, ...], file: str) -> tuple[Rule, ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise DataError(file, "`rules` is not a mapping", "Write `name: what no true record shows`, one a line.")
    by_type: dict[str, Sort] = {"number": "number", "integer": "number", "category": "text", "date": "date"}
    sorts = {c.name: by_type[c.type] for c in columns}
    rules = []
    for name, never in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(never, str):
            raise DataError(file, f"{str(name)!r} in `rules` is not a name with a text", "Write `name: expression`.")
        try:
            rules.append(parse_rule(name, never, sorts))
        except RuleError as e:
            mend = "`fedprofile/data/contract_rules.py` lists what a rule may say."
            raise DataError(file, f"rule {name!r}: {e}", mend) from None
    return tuple(rules)


def _limits(value: Any, file: str) -> Limits:
    if value is None:
        return Limits()
    entry = mapping(value, file, "`limits`", (), tuple(vars(Limits())))

    def wrong(what: str, mend: str) -> DataError:
        return DataError(file, f"limits: {what}", mend)

    found: dict[str, Any] = {k: _share(entry[k], wrong, k) for k in ("quarantined", "quality") if k in entry}
    if "drift" in entry:
        found["drift"] = _number(entry["drift"])
        if not found["drift"] or found["drift"] <= 0:
            raise wrong("`drift` is not a number above 0", "PSI of 0.25 is the usual sign of a changed table.")
    if "min_rows" in entry:
        rows = found["min_rows"] = entry["min_rows"]
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise wrong("`min_rows` is not a whole number from 1", "Write a number of rows.")
    return Limits(**found)
