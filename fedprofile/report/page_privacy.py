"""The privacy part of report.html: what left the nodes, what every opening hid, and the label budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedprofile.report import words
from fedprofile.report.markup import Safe, facts, join, table, tag


def privacy_section(report: Mapping[str, Any]) -> Safe:
    """Wire, openings and epsilon of a valid report."""
    privacy = report["privacy"]
    return join(
        [
            tag("h2", "Privacy", id="privacy", class_="page"),
            tag("p", "What left the nodes, what could be opened, and what hid each contribution.", class_="quiet"),
            tag("h3", "Labels"),
            facts(
                [
                    *((f"ε for {task}", words.epsilon(eps)) for task, eps in privacy["label_eps"].items()),
                    (
                        "ε over all tasks",
                        "none" if privacy["label_eps_total"] is None else f"{privacy['label_eps_total']:g}",
                    ),
                    ("customers released", words.count(privacy["customers_released"])),
                    ("mechanism", privacy["mechanism"]),
                ]
            ),
            tag("h3", "What was opened"),
            _openings(privacy["openings"], report["modes"]["secure"] == "none"),
            tag("h3", "What crossed the wire"),
            tag("div", *(_wire(report["wire"], way, told) for way, told in _WAYS), class_="figures"),
        ]
    )


_WAYS = (("up", "From the nodes to the coordinator"), ("down", "From the coordinator to the nodes"))


def _openings(openings: list[Mapping[str, Any]], unmasked: bool) -> Safe:
    rows = [
        [
            words.KIND_NAMES.get(o["kind"], o["kind"]),
            o["scope"] or "all nodes",
            o["opener"] or "coordinator",
            *(words.count(o[k]) for k in ("count", "members", "hidden")),
            _colluders(o["tolerated_colluders"]),
        ]
        for o in openings
    ]
    told = "Only sums were opened. Hidden: how many nodes' contributions no recipient of the sum can tell apart."
    if unmasked:
        told = "secure=none: nothing was masked, so the coordinator could read every contribution."
    head = ["sum of", "scope", "opened by", "openings", "nodes in it", "hidden", "colluders tolerated"]
    return table(head, rows, told, words=3) if rows else tag("p", told if unmasked else "No sum was opened.")


def _colluders(tolerated: int) -> str:
    if tolerated < 0:
        return "nothing is hidden"
    return words.count(tolerated) if tolerated else "none"


def _wire(wire: Mapping[str, Any], way: str, told: str) -> Safe:
    messages, sent = words.traffic(wire, way)
    rows = [
        [kind, words.count(row["messages"]), words.size(row["bytes"])]
        for kind, row in sorted(wire[way].items(), key=lambda item: -item[1]["bytes"])
    ]
    rows.append(["all", words.count(messages), words.size(sent)])
    return table(["message", "messages", "bytes"], rows, told, "all")
