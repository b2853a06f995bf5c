"""A contract: what every member of a role promises about its table, column by column, and when a run must stop.

Pure data. ``contract_file`` reads it, ``contract_check`` holds a table against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from fedprofile.data.contract_rules import Rule
from fedprofile.types import canonical, digest

ColumnType = Literal["number", "integer", "category", "date"]
TYPES: tuple[ColumnType, ...] = ("number", "integer", "category", "date")
Sensitivity = Literal["C1", "C2", "C3"]
# JR/T 0197-2020 grades data from 1 (public) to 5; C1, C2, C3 of JR/T 0171-2020 stand for at least these levels.
LEAST_GRADE: dict[Sensitivity, int] = {"C1": 2, "C2": 3, "C3": 4}


@dataclass(frozen=True)
class Column:
    """One column.

    grade: 1 to 5 (JR/T 0197-2020); sensitivity: C1 to C3 (JR/T 0171-2020). low, high: inclusive range, of a date ISO
    text. codes: the levels of a category, () for any. unknown: cells that stand for "not known" and become missing.
    missing: largest allowed share of missing cells; 0 makes the cell required. max_age_days: of a date, older rows
    are stale. changes_days: nobody's value staying the same for so long looks like an old export. even_digits: the
    last digits of real values are spread evenly, so heaps look invented. aliases: names under which tables of the role
    usually have the column; they only help ``map --suggest``.
    """

    name: str
    type: ColumnType
    grade: int
    sensitivity: Sensitivity
    unit: str = ""
    low: float | str | None = None
    high: float | str | None = None
    codes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: float = 0.0
    max_age_days: int | None = None
    changes_days: int | None = None
    even_digits: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        return self.type in ("number", "integer")


@dataclass(frozen=True)
class IdRule:
    """The id column: its name in the contract, and a regular expression that the whole normalised id matches."""

    name: str
    pattern: str = ""


@dataclass(frozen=True)
class Limits:
    """What stops a run: quarantined share of rows, PSI of a column, fewest rows kept, lowest quality figure."""

    quarantined: float = 0.05
    drift: float = 0.25
    min_rows: int = 256
    quality: float = 0.8


@dataclass(frozen=True)
class Contract:
    """A whole contract. ``version`` grows with every change that members agree on."""

    version: int
    role: str
    purpose: str
    id: IdRule
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @property
    def root(self) -> bytes:
        """32 bytes that name the content: equal for equal contracts, whatever their layout in the file."""
        return digest("contract/1", canonical(self.to_json()))

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that enter the table; dates only serve freshness and the rules."""
        return tuple(c for c in self.columns if c.type != "date")

    @property
    def categorical(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.type == "category")

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "role": self.role,
            "purpose": self.purpose,
            "id": vars(self.id),
            "columns": [_plain(c) for c in self.columns],
            "rules": [[r.name, r.never] for r in self.rules],
            "limits": vars(self.limits),
        }


def _plain(column: Column) -> dict[str, Any]:
    values = {f.name: getattr(column, f.name) for f in fields(column)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
