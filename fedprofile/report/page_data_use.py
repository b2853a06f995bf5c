"""The quarterly data-use report as one HTML file: for a security officer, a regulator, a board. Nothing is loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fedprofile.governance.audit_verify import Verified
from fedprofile.report import words
from fedprofile.report.data_use import DataUse, Quarter, Record, short
from fedprofile.report.markup import Safe, facts, join, table, tag
from fedprofile.report.page import document


def write_page(use: DataUse, quarter: Quarter, verified: Verified, out: Path) -> None:
    """``verified``: of the log that ``use`` was read from."""
    title = f"Data use of {verified.party}, {quarter.name}"
    parts = [_head(title, use, quarter), _plans(use), _tables(use), _left(use), _spent(use), _refused(use)]
    body = join([*parts, _break_glass(use), _others(use), _proof(verified)])
    out.write_text(document(title, body), encoding="utf-8")


def _head(title: str, use: DataUse, quarter: Quarter) -> Safe:
    begin, last = _day(quarter.begin), _day(quarter.end - 1)
    said = [tag("p", f"{begin} to {last} (UTC), from this party's own audit log.", class_="lead")]
    if use.timeless:
        said.append(tag("p", f"{use.timeless} lines of simulated runs carry no time and are in no quarter."))
    return join([tag("h1", title), *said])


def _section(title: str, rows: list[list[str]], head: list[str], words: int, none: str) -> Safe:
    return join([tag("h2", title), table(head, rows, words=words) if rows else tag("p", none, class_="quiet")])


def _plans(use: DataUse) -> Safe:
    rows = [
        [
            _at(r), short(r["run"]), _decision(r), r["purpose"], ", ".join(r["tasks"]), _eps(r), str(r["rounds"]),
        ]
        for r in use.plans
    ]  # fmt: skip
    head = ["when", "run", "decision", "purpose", "tasks", "label ε", "rounds"]
    return _section("Who asked for what", rows, head, 5, "No plan was decided.")


def _tables(use: DataUse) -> Safe:
    rows = []
    for r in use.tables:
        consent = f"ledger line {r['consent_line']}, {short(r['consent'])}" if "consent" in r else "simulated consent"
        fields = ", ".join(r["columns"])
        counts = [f"{r['rows']:,}", words.quality(r.get("quality"))]
        rows.append([_at(r), short(r["run"]), r["purpose"], fields, consent, short(r.get("contract")), *counts])
    head = ["when", "run", "purpose", "fields", "under consent", "contract", "rows", "data quality"]
    return _section("Which fields were used, under which consent", rows, head, 6, "No row was read.")


def _left(use: DataUse) -> Safe:
    rows = [[run, type_, f"{count:,}", f"{size:,}"] for run, type_, count, size in use.left_rows()]
    head = ["run", "type of message", "messages", "bytes"]
    return _section("What left", rows, head, 2, "Nothing left.")


def _spent(use: DataUse) -> Safe:
    rows = [[_at(r), short(r["run"]), r["purpose"], _eps(r), str(r["uploads"]), str(r["openings"])] for r in use.spent]
    head = ["when", "run", "purpose", "label ε per customer", "masked uploads", "score sums opened"]
    once = "A label is randomised once for ever: the ε of two runs on the same tasks is spent once, not twice."
    return join([_section("What finished runs spent", rows, head, 3, "No run was finished."), tag("p", once)])


def _refused(use: DataUse) -> Safe:
    rows = [[code, asked or "no message", str(count)] for (code, asked), count in sorted(use.refusals.items())]
    return _section("What was refused", rows, ["code", "asked", "times"], 2, "Nothing was refused.")


def _break_glass(use: DataUse) -> Safe:
    rows = [
        [_at(r), short(r["request"]), r["reason"], ", ".join(r["columns"]), str(r["consent_line"])]
        for r in use.break_glass
    ]
    head = ["when", "request", "reason", "fields", "line of the consent ledger"]
    return _section("Break-glass reads", rows, head, 4, "None.")


def _others(use: DataUse) -> Safe:
    return _section(
        "Keys and membership", [[_at(r), r["event"]] for r in use.others], ["when", "event"], 2, "No change."
    )


def _proof(verified: Verified) -> Safe:
    return join([tag("h2", "How this was verified"), facts([*verified.rows().items()])])


def _decision(record: Record) -> str:
    said = f"{record['decision']} by {record['by']}"
    if "runs" in record:
        return f"{said}, standing: {record['runs']} runs"
    return f"{said}, under the standing approval of plan {short(record['under'])}" if "under" in record else said


def _eps(record: Record) -> str:
    return f"{record['label_eps']:g}" if "label_eps" in record else "none"


def _at(record: Record) -> str:
    return datetime.fromtimestamp(record["at"], UTC).strftime("%Y-%m-%d %H:%M")


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
