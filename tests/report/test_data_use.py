"""The quarterly report says what the log says of that quarter: by name and count, escaped, with nothing loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fedprofile.errors import UsageError
from fedprofile.governance.audit import BreakGlass, Decided, KeyRotated, Refused, Sent, Spent, TableUsed
from fedprofile.governance.audit_log import AuditLog
from fedprofile.governance.audit_verify import verify_log
from fedprofile.report.data_use import Quarter, summarise
from fedprofile.report.page_data_use import write_page
from fedprofile.secagg.identity import Identity

RUN, PURPOSE = "ab" * 32, "tiering <b>&"
Q4 = Quarter.parse("2026Q4")
EVENTS = (
    Decided(
        "approved", "people", "cd" * 32, RUN, PURPOSE, ("tier", "invest"), ("income", "age"), 20, 4.0, "2026-12-31"
    ),
    TableUsed(RUN, PURPOSE, 1234, ("income", "age"), "ef" * 32, "12" * 32, 77, 0.9731),
    Sent("uploads", "round", 1_000_000, 2, "aa" * 32, RUN, PURPOSE, (("update", "", 1, 0),)),
    Sent("uploads", "round", 1_000_000, 2, "ab" * 32, RUN, PURPOSE, (("update", "", 2, 0),)),
    Sent("identity", "identify", 30, 0, "ac" * 32),
    Refused("too_many_uploads", "round", RUN),
    BreakGlass("34" * 32, ("income",), "complaint", "56" * 32, 80),
    Spent(RUN, PURPOSE, 2, 1, 4.0),
    KeyRotated("78" * 32),
)


@pytest.fixture
def write(tmp_path):
    def made(*times):
        """The same events at each time; None for a simulated log."""
        for time in times:
            clock = None if time is None else (lambda t=time: t)
            AuditLog(tmp_path, "clinic", Identity.from_seed(bytes(32)), clock).write(*EVENTS)
        return tmp_path

    return made


def read_log(folder):
    records = []
    verify_log(folder, each=records.append)
    return records


def test_a_quarter_begins_and_ends_with_its_days():
    at = lambda *day: int(datetime(*day, tzinfo=UTC).timestamp())  # noqa: E731
    assert (Q4.begin, Q4.end) == (at(2026, 10, 1), at(2027, 1, 1))
    assert Quarter.parse("2026Q1").end == Quarter.parse("2026Q2").begin
    for wrong in ("2026Q5", "2026-Q4", "26Q4", "2026Q4 ", ""):
        with pytest.raises(UsageError, match="is no quarter"):
            Quarter.parse(wrong)


def test_only_the_quarters_own_events_count(write):
    folder = write(Q4.begin - 1, Q4.begin, Q4.end - 1, Q4.end)
    use = summarise(read_log(folder), Q4)
    assert use.totals() == {
        "plans": 2, "tables_used": 2, "messages": 6, "bytes": 4_000_060, "uploads": 4, "label_eps": 4.0,
        "refusals": 2, "break_glass_reads": 2,
    }  # fmt: skip
    assert use.left_rows() == [("ab" * 6, "uploads", 4, 4_000_000), ("–", "identity", 2, 60)]
    assert summarise(read_log(folder)).totals()["plans"] == 4


def test_lines_of_a_simulation_are_in_no_quarter(write):
    use = summarise(read_log(write(None)), Q4)
    assert (use.totals()["messages"], use.timeless) == (0, len(EVENTS) + 1)


def test_the_page_names_fields_purpose_consent_and_what_left(write, tmp_path):
    folder = write(Q4.begin)
    verified, out = verify_log(folder), tmp_path / "report.html"
    write_page(summarise(read_log(folder), Q4), Q4, verified, out)
    page = out.read_text()
    text = re.sub(r"<[^>]*>", "|", page.split("<body>")[1])
    for said in (
        "2026-10-01 to 2026-12-31", "tiering &lt;b&gt;&amp;", "income, age", "ledger line 77, 121212121212",
        "approved by people", "1,234", "0.973", "|uploads|", "2,000,000", "too_many_uploads", "complaint", "key-rotated",
        verified.head.hash.hex(),
    ):  # fmt: skip
        assert said in text, said
    assert "<b>&" not in page
    assert "default-src" in page
    assert not re.search(r"(?:src|href)=|url\(|@import|<script", page)
    assert text.rindex(verified.head.hash.hex()) > text.rindex("key-rotated"), "the head stands at the bottom"


def test_standing_approvals_and_what_ran_under_them_are_told(tmp_path):
    given = replace(EVENTS[0], runs=9)
    under = replace(given, by="policy", plan="ee" * 32, runs=None, under=given.plan)
    AuditLog(tmp_path, "clinic", Identity.from_seed(bytes(32)), lambda: Q4.begin).write(given, under)
    out = tmp_path / "report.html"
    write_page(summarise(read_log(tmp_path), Q4), Q4, verify_log(tmp_path), out)
    for said in (
        "approved by people, standing: 9 runs",
        "approved by policy, under the standing approval of plan cdcd",
    ):
        assert said in out.read_text()


def test_an_empty_quarter_says_so(write, tmp_path):
    folder, out = write(Q4.begin), tmp_path / "report.html"
    early = Quarter.parse("2025Q1")
    write_page(summarise(read_log(folder), early), early, verify_log(folder), out)
    for said in ("No plan was decided.", "No row was read.", "Nothing left.", "Nothing was refused."):
        assert said in out.read_text()
