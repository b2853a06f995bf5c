"""gate.html: what the gates say of one bundle, on one page that loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedprofile.report import words
from fedprofile.report.markup import Safe, facts, join, listing, picture, table, tag
from fedprofile.report.page import document

_ANSWERS = {True: "pass", False: "FAIL", None: "not applicable"}


def gate_page(report: Mapping[str, Any], passed: bool, sha256: str, plots: Mapping[Path, str]) -> str:
    """The page of gate.json; ``sha256`` is what an approval of it signs, ``plots`` of ``plots.write_gate_plots``.

    The images are embedded; the tables say the same in words.
    """
    findings, evidence = report["findings"], report["evidence"]
    body = join(
        [
            tag("p", "fedprofile · gates of one bundle", class_="eyebrow"),
            tag("h1", "Passed: people may decide" if passed else "Not passed: it may not be promoted"),
            tag("p", _counted(findings), class_="lead"),
            _failures(findings),
            tag("div", tag("h3", "To read this"), listing(evidence["notes"]), class_="note"),
            _charts(plots),
            tag("h2", "Findings"),
            _findings(findings),
            tag("h2", "What was measured"),
            _measures(evidence["measures"]),
            _groups(evidence["measures"]),
            tag("h2", "What was judged"),
            facts(
                [
                    ("manifest of the bundle", evidence["manifest"]),
                    ("manifest of the champion", evidence["champion"] or "none"),
                    ("this report (gate.json)", sha256),
                    ("bootstrap", f"{report['settings']['draws']} draws, seed {report['settings']['seed']}"),
                ]
            ),
        ]
    )
    return document("fedprofile gates", body)


def _counted(findings: list[Mapping[str, Any]]) -> str:
    counts = {answer: sum(f["passed"] is answer for f in findings) for answer in _ANSWERS}
    return f"{counts[True]} passed, {counts[False]} failed, {counts[None]} do not apply."


def _failures(findings: list[Mapping[str, Any]]) -> Safe:
    failed = [f"{f['gate']}: {f['reason']}" for f in findings if f["passed"] is False]
    return tag("div", tag("h3", "What failed"), listing(failed), class_="note warn") if failed else Safe("")


def _findings(findings: list[Mapping[str, Any]]) -> Safe:
    rows = [
        [f["gate"], _ANSWERS[f["passed"]], f["reason"], words.number(f["value"]), words.number(f["bar"])]
        for f in findings
    ]
    return table(["gate", "answer", "reason", "value", "bar"], rows, "Every gate, with its reason", words=3)


def _charts(plots: Mapping[Path, str]) -> Safe:
    if not plots:
        return Safe("")
    pictures = [picture(path, f"{told}. The tables below hold every figure of it.") for path, told in plots.items()]
    return join([tag("h2", "At a glance"), tag("div", *pictures, class_="figures")])


def _measures(measures: list[Mapping[str, Any]]) -> Safe:
    rows = []
    for m in measures:
        champion = _with_interval(m["champion"], m["champion_low"], m["champion_high"])
        count = "–" if m["count"] is None else words.count(m["count"])
        rows.append([m["gate"], m["subject"], words.number(m["value"]), _pair(m["low"], m["high"]), champion, count])
    head = ["gate", "of", "value", "95 %", "champion", "customers"]
    return table(head, rows, "Challenger, and the champion on the same customers", words=2)


def _groups(measures: list[Mapping[str, Any]]) -> Safe:
    rows = list(_group_rows(measures))
    head = ["of", "group", "share found", "95 %", "champion", "customers"]
    told = "Share found of customers with the need or of the top level, by group; –: too few to judge"
    return table(head, rows, told, words=2) if rows else Safe("")


def _group_rows(measures: list[Mapping[str, Any]]) -> Iterator[list[str]]:
    for m in measures:
        for p in m["parts"]:
            numbers = [words.number(p["value"]), _pair(p["low"], p["high"]), words.number(p["champion"])]
            yield [m["subject"], p["name"], *numbers, words.count(p["count"])]


def _pair(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else words.bracket(low, high)


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else tag("small", words.bracket(low, high))
    return join([words.number(value), interval])
