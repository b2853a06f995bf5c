"""One entry under ``columns`` of contract.yaml: every key fits the type, every number is one."""

from __future__ import annotations

import math
from datetime import date
from typing import Any, cast

from fedprofile.data.contract import LEAST_GRADE, TYPES, Column, ColumnType
from fedprofile.data.reading import nearest
from fedprofile.data.units import UNITS
from fedprofile.data.yaml_file import mapping, text
from fedprofile.errors import DataError

_OPTIONAL = ("unit", "range", "codes", "unknown", "missing", "max_age_days", "changes_days", "even_digits", "aliases")
_NUMBER_ONLY, _DATE_ONLY, _FEATURE_ONLY = {"even_digits"}, {"max_age_days"}, {"changes_days"}


def read_column(name: str, value: Any, file: str) -> Column:
    """A Column of the mapping that stands under its name; DataError names the column, the key and the mend."""
    entry = mapping(value, file, f"column {name!r}", ("type", "grade", "class"), _OPTIONAL)

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
    missing = share(entry.get("missing", 0), wrong, "missing")
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
    ends: list[Any] = [_date(v) if type_ == "date" else finite(v) for v in value]
    if any(e is False for e in ends):
        kind = "dates YYYY-MM-DD" if type_ == "date" else "numbers"
        raise wrong(f"the ends of `range` are not {kind}", "Correct them; null leaves one open.")
    if None not in ends and ends[0] > ends[1]:
        raise wrong("`range` ends before it starts", "Write [low, high].")
    return ends[0], ends[1]


def finite(value: Any) -> Any:
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


def share(value: Any, wrong: Any, key: str) -> float:
    """A number from 0 to 1, or the error that ``wrong`` makes."""
    number = finite(value)
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
