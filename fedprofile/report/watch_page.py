"""watch.html: how far a champion's live customers have moved, on one page that loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedprofile.report import words
from fedprofile.report.markup import facts, join, listing, table, tag
from fedprofile.report.page import document

KINDS = {
    "score_psi": "scores, PSI",
    "input_psi": "column, PSI",
    "missing": "empty cells, difference of shares",
    "unseen": "levels not named in training, share more",
}


def watch_page(report: Mapping[str, Any], evidence: str) -> str:
    """The page of watch.json; ``evidence`` is its name."""
    watched, findings = report["watched"], report["findings"]
    moved = sum(f["moved"] for f in findings)
    head = "Retraining is recommended" if report["retrain"] else "Nothing has moved"
    rows = [
        [
            f["shift"]["subject"],
            KINDS[f["shift"]["kind"]],
            "MOVED" if f["moved"] else "no",
            words.number(f["shift"]["value"]),
            words.number(f["bar"]),
            words.number(f["shift"]["noise"]),
            words.count(f["shift"]["now"]),
        ]
        for f in findings
    ]
    columns = ["of", "what", "moved", "value", "bar", "chance", "live"]
    about = [
        ("manifest of the champion", watched["manifest"]),
        ("live customers", words.count(watched["rows"])),
        ("scores", watched["scores"]),
        ("training distributions from", watched["reference"]),
        ("this evidence", evidence),
    ]
    body = join(
        [
            tag("p", "fedprofile · live customers of the champion", class_="eyebrow"),
            tag("h1", head),
            tag("p", f"{moved} of {len(findings)} comparisons are over their bar and over chance.", class_="lead"),
            tag("div", tag("h3", "To read this"), listing(watched["notes"]), class_="note"),
            tag("h2", "What was compared"),
            table(columns, rows, "Live against training; chance: exceeded once in a thousand times", words=3),
            tag("h2", "What was judged"),
            facts(about),
        ]
    )
    return document("fedprofile watch", body)
