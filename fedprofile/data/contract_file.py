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

import re
from importlib import resources
from pathlib import Path
from typing import Any

from fedprofile.data.contract import Column, Contract, IdRule, Limits
from fedprofile.data.contract_columns import finite, read_column, share
from fedprofile.data.contract_rules import Rule, RuleError, Sort
from fedprofile.data.reading import nearest
from fedprofile.data.rule_parser import parse_rule
from fedprofile.data.yaml_file import mapping, parse_yaml, read_yaml, text
from fedprofile.errors import DataError, UsageError

FILE = "contract.yaml"
PARTNERS = "fedprofile.partners"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
# The frame's library reads a leading ^ as a pattern, and * as every column.
_COLUMN_NAME = re.compile(r"\w[^\x00-\x1f]{0,63}")


def read_contract(path: Path) -> Contract:
    """The checked contract of a file; DataError names the key, the column and the mend."""
    return parse_contract(read_yaml(path, path.name), path.name)


def shipped_contract(role: str) -> Contract:
    """The contract that the package ships for a role; UsageError for a role without one."""
    return parse_contract(parse_yaml(shipped_text(role), FILE))


def shipped_text(role: str) -> str:
    """The file of ``shipped_contract`` as it is written."""
    roles = shipped_roles()
    if role not in roles:
        mend = nearest(role, roles) or f"Shipped: {', '.join(roles)}. Another role writes its own {FILE}."
        raise UsageError(f"no contract is shipped for the role {role!r}", mend)
    return resources.files(PARTNERS).joinpath(role, FILE).read_text("utf-8")


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
    columns = tuple(read_column(str(name).strip(), entry, file) for name, entry in value.items())
    if all(c.type == "date" for c in columns):
        raise DataError(file, "no column is a feature", "Dates serve freshness and rules only: add another column.")
    return columns


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
            mend = "partners/data.md says what a rule may hold."
            raise DataError(file, f"rule {name!r}: {e}", mend) from None
    return tuple(rules)


def _limits(value: Any, file: str) -> Limits:
    if value is None:
        return Limits()
    entry = mapping(value, file, "`limits`", (), tuple(vars(Limits())))

    def wrong(what: str, mend: str) -> DataError:
        return DataError(file, f"limits: {what}", mend)

    found: dict[str, Any] = {k: share(entry[k], wrong, k) for k in ("quarantined", "quality") if k in entry}
    if "drift" in entry:
        found["drift"] = finite(entry["drift"])
        if not found["drift"] or found["drift"] <= 0:
            raise wrong("`drift` is not a number above 0", "PSI of 0.25 is the usual sign of a changed table.")
    if "min_rows" in entry:
        rows = found["min_rows"] = entry["min_rows"]
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise wrong("`min_rows` is not a whole number from 1", "Write a number of rows.")
    return Limits(**found)
