"""What anybody who can read a registry may ask of it: where it stands, what happened, how two versions differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fedprofile.errors import FedprofileError
from fedprofile.governance.chain import Head, Record
from fedprofile.governance.promotion import State, judge, objections, replay
from fedprofile.registry.home import Registry, people_file
from fedprofile.registry.serving import served

DETAILS = ("manifest", "champion", "reason")


def day(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def status(registry: Registry, state: State, now: int) -> dict[str, Any]:
    """The head, every version with its stage and what still stands between it and champion."""
    people = state.people
    return {
        "model": registry.model,
        "root": state.registry,
        "lines": state.head.seq,
        "head": state.head.hash.hex(),
        "champion": state.champion,
        "challenger": state.challenger,
        "shadow": state.shadow,
        "people": len([p for p in people.persons if p.is_live(now)]) if people else 0,
        "people_file": people_file(registry.path) == people,
        "versions": [_version(state, manifest, now) for manifest in state.releases],
    }


def _version(state: State, manifest: str, now: int) -> dict[str, Any]:
    release, approvals = judge(state, manifest, now)
    return {
        "manifest": manifest,
        "name": release.name,
        "stage": state.stage(manifest),
        "gates": release.passed,
        "approvals": [{"person": a.person, "role": a.role, "decision": a.decision} for a in approvals.counted],
        "objections": list(objections(state, manifest, now)),
    }


def history(registry: Registry) -> tuple[State, list[dict[str, Any]]]:
    """Every line of the log, all of it checked: what happened, who did it, when."""
    lines = list(registry.heads.lines())
    return replay(lines, registry.root_pk), [_told(head, record) for head, record in lines]


def _told(head: Head, record: Record) -> dict[str, Any]:
    facts = {key: record[key] for key in ("event", "by", "at")}
    about = {key: record[key] for key in DETAILS if record.get(key) is not None}
    if record["event"] == "approve":
        given = record["approval"]
        about = {key: given[key] for key in ("manifest", "report", "role", "decision", "expires")}
    if record["event"] == "gate":
        about |= {key: record["verdict"][key] for key in ("report", "passed")}
        if (because := record.get("because")) is not None:
            about["because"] = {key: because[key] for key in ("evidence", "table", "person", "reasons")}
    if record["event"] == "people":
        people = record["people"]
        about = {"version": people["version"], "live": [p["id"] for p in people["persons"] if p["revoked"] is None]}
    return {"line": head.seq, "hash": head.hash.hex(), **facts, **about}


def champion_served(registry: Registry, state: State) -> str | None:
    """With its partners or bank alone, by the champion's bundle, or why that is not known; None without a champion."""
    if state.champion is None:
        return None
    try:
        return served(registry.shelf.meta(state.champion))
    except FedprofileError as error:  # of a shared log, another machine may hold the bundle
        return f"whether fused or bank alone is not known: {error}"


def sentence(line: Mapping[str, Any], state: State) -> str:
    """One line of the history, for a person."""
    what = str(line["event"])
    if "manifest" in line:
        what += f" {state.release(line['manifest']).name}"
    elif what == "shadow":
        what += " nobody"
    if "live" in line:
        what += f" version {line['version']}: {', '.join(line['live']) or 'nobody'}"
    said = str(line.get("reason", ""))
    if line["event"] == "gate":
        said = "passed" if line["passed"] else "failed"
        if "because" in line:
            said += f", trained because {line['because']['person']} recommended it"
    if line["event"] == "approve":
        said = f"{line['decision']} as {line['role']}, until {day(line['expires'])}"
    return f"{line['line']:>4}  {day(line['at'])}  {line['by']:<10} {what}{': ' + said if said else ''}"


def difference(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ between two JSON documents; None where one lacks it."""
    a, b = dict(_leaves(mine, "")), dict(_leaves(other, ""))
    return [(key, a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
