"""The parts of report.html about the run itself: learning, setting, how to do it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedprofile.report import words
from fedprofile.report.markup import Safe, facts, join, picture, table, tag


def learning_section(report: Mapping[str, Any], curve: Path | None) -> Safe:
    """Loss by round and wall clock by stage."""
    seconds = report["seconds"]
    total = sum(seconds.values())
    rows = [[stage, words.duration(s), words.percent(s / total if total else 0)] for stage, s in seconds.items()]
    clock = table(["stage", "time", "share"], rows, f"Wall clock: {words.duration(total)}")
    told = "Losses are means over nodes, on randomised labels"
    if report["modes"]["secure"] != "none":
        told += ", read from masked sums: no node's own loss is known to anybody else"
    shown = [picture(curve, "Training loss by round")] if curve else []
    return join(
        [
            tag("h2", "Learning", id="learning"),
            tag("p", f"{told}.", class_="quiet") if curve else "",
            tag("div", *shown, clock, class_="figures"),
        ]
    )


def setting_section(report: Mapping[str, Any]) -> Safe:
    """Who took part, with what, under which modes."""
    data, split = report["data"], report["data"]["split"]
    parts = ", ".join(
        f"{words.count(split[k])} {told}"
        for k, told in (("train", "to fit"), ("valid", "to choose"), ("test", "to judge"))
    )
    parties = [
        [
            p["id"],
            p["role"],
            *(words.count(p[k]) for k in ("rows", "columns", "customers_known")),
            words.quality(p["quality"]),
        ]
        for p in data["parties"]
    ]
    head = ["node", "role", "rows", "columns", "customers known", "data quality"]
    modes = [(key, "as in the data" if value is None else str(value)) for key, value in report["modes"].items()]
    return join(
        [
            tag("h2", "Setting", id="setting"),
            facts([("data", data["name"]), ("customers", f"{words.count(data['customers'])}: {parts}")]),
            table(head, parties, "Who took part", words=2),
            tag("h3", "Modes"),
            facts(modes),
        ]
    )


def reproduce_section(report: Mapping[str, Any]) -> Safe:
    """The command, what pins it, and how to read the numbers."""
    run = report["run"]
    command = [tag("pre", run["command"])] if "command" in run else []
    return join(
        [
            tag("h2", "Reproduce", id="reproduce"),
            *command,
            facts(
                [
                    ("git commit", run["git_commit"] or "outside a repository"),
                    ("configuration, SHA-256", run["config_sha256"]),
                    ("data, digest", report["data"]["digest"]),
                    ("seed and fold", f"{run['seed']}, {run['fold']}"),
                    ("MLflow run", run["mlflow_run_id"] or "not tracked"),
                ]
            ),
            tag("h3", "How to read the numbers"),
            facts(words.MEASURES),
        ]
    )
