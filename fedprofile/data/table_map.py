"""map.yaml, format 1: from a partner's own table to the contract, checked against the contract.

::

    format: 1
    id: patient_no                      # their id column
    columns:
      WeightKg: {from: weight, unit: jin}
      Gender: {from: sex, codes: {M: Male, F: Female}, missing: ["9"]}
      AgeInYears: {from: age_months, unit: months, round: down}
      Income: {from: income, unit: 10k CNY, thousands: true}
      Updated: {from: changed_on, date: "%d/%m/%Y"}
    absent: [WaistCircumferenceCm]      # the contract's, but not in the table
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedprofile.data.contract import Column, Contract
from fedprofile.data.contract_cells import Reading
from fedprofile.data.reading import nearest
from fedprofile.data.units import UNITS, factor, relatives
from fedprofile.data.yaml_file import mapping, read_yaml, text
from fedprofile.errors import DataError
from fedprofile.types import canonical, digest

FILE = "map.yaml"
_FORM = re.compile(r"(?:%[YmdHMS]|[-/. :T年月日])+")
_KEYS = {
    "number": {"unit", "missing", "thousands"},
    "integer": {"unit", "missing", "thousands", "round"},
    "category": {"codes", "missing"},
    "date": {"date", "missing"},
}


@dataclass(frozen=True)
class TableMap:
    """``id``: their id column. readings: contract column -> how they write it; columns without one are absent."""

    id: str
    readings: Mapping[str, Reading]

    @property
    def columns(self) -> tuple[str, ...]:
        """Their columns that are read, the id first; nothing else of the table is."""
        return tuple(dict.fromkeys((self.id, *(r.column for r in self.readings.values()))))

    @property
    def root(self) -> bytes:
        """32 bytes that name the map's content."""
        body = {name: {**vars(r), "codes": dict(r.codes)} for name, r in self.readings.items()}
        return digest("table-map/1", canonical({"id": self.id, "columns": body}))


def read_map(path: Path, contract: Contract) -> TableMap:
    """The checked map of a file; DataError names the column and the mend."""
    return parse_map(read_yaml(path, path.name), contract, path.name)


def same_names(contract: Contract, columns: list[str]) -> TableMap:
    """The map of a table that has the contract's names, units and codes already; what it lacks is absent."""
    return TableMap(contract.id.name, {c.name: Reading(c.name) for c in contract.columns if c.name in columns})


def parse_map(raw: Any, contract: Contract, file: str = FILE) -> TableMap:
    """A TableMap of the mapping that the file holds. Every column of the contract is mapped, or named as absent."""
    top = mapping(raw, file, "the file", ("id", "columns"), ("format", "absent"))
    if top.get("format", 1) != 1 or isinstance(top.get("format"), bool):
        raise DataError(file, "`format` is not 1", "Write `format: 1`; this version reads no other.")
    if not isinstance(top["columns"], dict):
        raise DataError(file, "`columns` is not a mapping", "Write one `contract column: {from: your column}` a line.")
    names = [c.name for c in contract.columns]
    absent = top.get("absent") or []
    if not isinstance(absent, list):
        raise DataError(file, "`absent` is not a list", "Write [a, b], or one `- name` a line.")
    for name in (*top["columns"], *absent):
        if name not in names:
            mend = nearest(str(name), names) or f"The contract of {contract.role} has {len(names)} columns."
            raise DataError(file, "the contract has no such column", mend, column=str(name))
    readings = {name: _reading(contract.column(name), entry, file) for name, entry in top["columns"].items()}
    for name in names:
        if name in readings and name in absent:
            raise DataError(file, "mapped, and named as absent", "Take it out of one place.", column=name)
        if name not in readings and name not in absent:
            mend = "Map it, or list it under `absent`: then it is missing for every customer."
            raise DataError(file, "a column of the contract is not mapped", mend, column=name)
    return TableMap(text(top["id"], file, "id"), {n: readings[n] for n in names if n in readings})


def _reading(column: Column, value: Any, file: str) -> Reading:
    keys = _KEYS[column.type]
    entry = mapping(value, file, f"column {column.name!r}", ("from",), sorted(set().union(*_KEYS.values())))

    def wrong(what: str, mend: str) -> DataError:
        return DataError(file, what, mend, column=column.name)

    for key in entry:
        if key != "from" and key not in keys:
            raise wrong(f"`{key}` does not go with type {column.type}", f"Possible: {', '.join(sorted(keys))}.")
    unit = "" if entry.get("unit") is None else text(entry["unit"], file, f"{column.name}.unit")
    if unit and (unit not in UNITS or not column.unit or factor(unit, column.unit) is None):
        known = relatives(column.unit)
        what = f"no way from {unit!r} to {column.unit or 'a column without a unit'!r}"
        raise wrong(what, f"Units: {', '.join(known)}." if known else "Leave the unit out.")
    rounding = entry.get("round", "")
    if rounding not in ("", "down", "nearest"):
        raise wrong("`round` is neither down nor nearest", "Write one of them, or leave it out.")
    if not isinstance(entry.get("thousands", False), bool):
        raise wrong("`thousands` is neither true nor false", "Write true where numbers are written 1,234.5.")
    form = entry.get("date", "")
    if form and (
        not isinstance(form, str)
        or not _FORM.fullmatch(form)
        or not all(p in form for p in ("%Y", "%m", "%d"))
        or ("%H" in form) != ("%M" in form)
        or ("%S" in form and "%H" not in form)
    ):
        raise wrong("`date` is no form of a date", 'Write one such as "%d/%m/%Y" (%Y %m %d %H %M %S).')
    return Reading(
        text(entry["from"], file, f"{column.name}.from"),
        unit,
        _code_list(entry.get("codes"), column, wrong),
        _texts(entry.get("missing"), wrong),
        form,
        entry.get("thousands", False),
        rounding,
    )


def _code_list(value: Any, column: Column, wrong: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or any(isinstance(v, bool | dict | list | None) for p in value.items() for v in p):
        raise wrong("`codes` is not a mapping of texts", "Write `theirs: the contract's`; quote yes, no, on and off.")
    codes = {str(k).strip(): str(v).strip() for k, v in value.items()}
    if column.codes and (strange := [v for v in codes.values() if v not in column.codes]):
        mend = nearest(strange[0], list(column.codes)) or f"The contract has {len(column.codes)} codes."
        raise wrong(f"`codes` leads to {len(strange)} codes that the contract lacks", mend)
    return codes


def _texts(value: Any, wrong: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, str | int | float) for v in value):
        raise wrong("`missing` is not a list of texts", 'Write ["9", "unknown"]; quote words such as no.')
    return tuple(str(v).strip() for v in value)
