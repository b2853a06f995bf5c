"""From the events of an audit log to what its data-use report says: counts, names and hashes, nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fedprofile.errors import UsageError
from fedprofile.governance.audit import BreakGlass, Decided, KeyRotated, Left, Refused, Sent, Spent, TableUsed

Record = Mapping[str, Any]
_SHORT = 12


@dataclass(frozen=True)
class Quarter:
    """``begin`` <= t < ``end``, UTC seconds since 1970."""

    name: str
    begin: int
    end: int

    @staticmethod
    def parse(text: str) -> Quarter:
        """Raises UsageError unless the text is a year and a quarter, 2026Q4."""
        found = re.fullmatch(r"(20\d\d)Q([1-4])", text)
        if not found:
            raise UsageError(f"{text!r} is no quarter", "Write the year and the quarter: 2026Q4.")
        year, month = int(found[1]), 3 * int(found[2]) - 2
        after = (year, month + 3) if month < 10 else (year + 1, 1)
        begin, end = (int(datetime(y, m, 1, tzinfo=UTC).timestamp()) for y, m in ((year, month), after))
        return Quarter(text, begin, end)


@dataclass
class DataUse:
    """Events by kind, in order; ``messages`` and ``bytes`` by (run, type). ``timeless``: lines without a time."""

    plans: list[Record] = field(default_factory=list)
    tables: list[Record] = field(default_factory=list)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    break_glass: list[Record] = field(default_factory=list)
    spent: list[Record] = field(default_factory=list)
    others: list[Record] = field(default_factory=list)
    messages: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    timeless: int = 0

    def take(self, record: Record) -> None:
        event = record["event"]
        if event == Sent.NAME:
            key = short(record.get("run")), str(record["type"])
            self.messages[key] += 1
            self.bytes[key] += record["bytes"]
        elif event == Refused.NAME:
            self.refusals[record["code"], record["asked"]] += 1
        elif event in _LISTED:
            getattr(self, _LISTED[event]).append(record)

    def left_rows(self) -> list[tuple[str, str, int, int]]:
        """(run, type of message, messages, bytes), runs in the order in which they began."""
        return [(*key, count, self.bytes[key]) for key, count in self.messages.items()]

    def totals(self) -> dict[str, int | float]:
        """``label_eps`` is the greatest of a run: a label is randomised once for ever, so equal tasks do not add up."""
        return {
            "plans": len(self.plans),
            "tables_used": len(self.tables),
            "messages": self.messages.total(),
            "bytes": self.bytes.total(),
            "uploads": sum(r["uploads"] for r in self.spent),
            "label_eps": max((r.get("label_eps", 0) for r in self.spent), default=0),
            "refusals": self.refusals.total(),
            "break_glass_reads": len(self.break_glass),
        }


_LISTED = {
    Decided.NAME: "plans",
    TableUsed.NAME: "tables",
    BreakGlass.NAME: "break_glass",
    Spent.NAME: "spent",
    KeyRotated.NAME: "others",
    Left.NAME: "others",
}


def summarise(records: Iterable[Record], quarter: Quarter | None = None) -> DataUse:
    """What a log says of one quarter, or of all time. Lines without a time (a simulation) are in no quarter."""
    use = DataUse()
    for record in records:
        if quarter is not None and "at" not in record:
            use.timeless += 1
        elif quarter is None or quarter.begin <= record["at"] < quarter.end:
            use.take(record)
    return use


def short(mark: str | None) -> str:
    """Enough of a hash to name it; a dash for what belongs to no run."""
    return mark[:_SHORT] if mark else "–"
