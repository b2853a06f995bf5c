"""What the model owner does, on a real registry: each verb is one line of the log, or nothing.

Bundles are read, and found unchanged, before the line is written; MLflow is told afterwards, by the command line. So a
verb is done when its line is there, whatever MLflow does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedprofile.errors import UsageError
from fedprofile.governance.advice import Advice
from fedprofile.governance.approvals import Choice, approval
from fedprofile.governance.gates import Verdict
from fedprofile.governance.people import Role
from fedprofile.governance.promotion import State
from fedprofile.registry.home import Registry
from fedprofile.secagg.identity import Identity

Gates = Callable[[Path, Path | None, Path], Verdict]
"""Judges a bundle's folder beside the champion's, if there is one, and writes the report into a new folder."""


@dataclass(frozen=True)
class Actor:
    """A person at the keyboard, with the own key."""

    id: str
    key: Identity


def gate(
    registry: Registry,
    actor: Actor,
    manifest: str,
    version: str,
    out: Path,
    gates: Gates,
    because: Advice | None = None,
) -> tuple[State, Verdict]:
    """Run the gates over a bundle on the shelf, and log what they said, and ``because`` of what it was trained."""
    before = registry.state()
    registry.check(before, actor.id, actor.key, "gate")
    champion = before.champion
    beside = None if champion is None else registry.shelf.folder(champion)
    verdict = gates(registry.shelf.folder(manifest), beside, out)
    if verdict.manifest != manifest:
        raise UsageError("the gates judged another bundle", "Run them again.")
    registry.shelf.put_report(verdict.report, out)
    known = before.releases.get(manifest)
    facts = {
        "manifest": manifest,
        "version": version or (known.version if known else ""),
        "trainer": registry.shelf.read(manifest).seal.key,
        "champion": champion,
        "verdict": verdict.to_json(),
        **({} if because is None else {"because": because.to_json()}),
    }
    return registry.write("gate", actor.id, actor.key, lambda _: facts), verdict


def approve(registry: Registry, actor: Actor, manifest: str, role: Role | None, decision: Choice, days: int) -> State:
    """The person's signed word about the bundle, unchanged on the shelf, and its last gate report."""
    release = registry.state().release(manifest)
    registry.shelf.read(manifest, release.trainer)

    def facts(state: State) -> Mapping[str, Any]:
        person = state.staff.get(actor.id)
        if person is None:
            raise UsageError(f"{actor.id!r} is not in people.json", "Ask the holder of the root key.")
        about = (state.registry, manifest, release.report)
        made = approval(about, person, role, decision, registry.clock(), days)
        return {"approval": made.signed(actor.key).to_json()}

    return registry.write("approve", actor.id, actor.key, facts)


def promote(registry: Registry, actor: Actor, manifest: str) -> State:
    """Make the version champion, if gates and two people say so, now."""
    registry.shelf.read(manifest, registry.state().release(manifest).trainer)
    return registry.write("promote", actor.id, actor.key, lambda _: {"manifest": manifest})


def roll_back(registry: Registry, actor: Actor, manifest: str | None, reason: str) -> State:
    """Go back to an earlier champion; without ``manifest``, to the one before the champion that is still in use."""

    def facts(state: State) -> Mapping[str, Any]:
        to = manifest or previous(state)
        registry.shelf.read(to, state.release(to).trainer)
        return {"manifest": to, "reason": reason}

    return registry.write("rollback", actor.id, actor.key, facts)


def previous(state: State) -> str:
    """The last champion before this one that is not retired. Raises UsageError where there is none."""
    for manifest in reversed(state.champions[:-1]):
        if manifest != state.champion and not state.release(manifest).retired:
            return manifest
    raise UsageError("there is no earlier champion", "Promote another version.")


def retire(registry: Registry, actor: Actor, manifest: str, reason: str) -> State:
    return registry.write("retire", actor.id, actor.key, lambda _: {"manifest": manifest, "reason": reason})


def shadow(registry: Registry, actor: Actor, manifest: str | None) -> State:
    """Name the version that may score silently beside the champion; None for no one."""
    if manifest is not None:
        registry.shelf.read(manifest, registry.state().release(manifest).trainer)
    return registry.write("shadow", actor.id, actor.key, lambda _: {"manifest": manifest})
