"""What MLflow is to show of a registry's state: plain words, none of them private."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedprofile.governance.promotion import Release, State

ALIASES = ("champion", "challenger", "shadow")
PREFIX = "fedprofile."
MANIFEST = PREFIX + "manifest"


@dataclass(frozen=True)
class Standing:
    """``aliases``: each of ALIASES to a version number, or None for none. ``champion``: its manifest, or ``none``.

    ``tags``: version number -> tag -> text, for every version that the log knows. ``reports``: version number ->
    (hex hash, folder) of its last gate report, where this machine has it.
    """

    seq: int
    head: str
    champion: str
    aliases: Mapping[str, str | None]
    tags: Mapping[str, Mapping[str, str]]
    reports: Mapping[str, tuple[str, Path]]

    @staticmethod
    def of(state: State, report: Callable[[str], Path | None]) -> Standing:
        """A bundle that was never registered in MLflow has no version number, and so no alias."""
        released = [r for r in state.releases.values() if r.version]
        numbers = {r.manifest: r.version for r in released}
        aliases = {alias: numbers.get(getattr(state, alias) or "") for alias in ALIASES}
        folders = {r.version: (r.report, report(r.report)) for r in released}
        return Standing(
            state.head.seq,
            state.head.hash.hex(),
            state.champion or "none",
            aliases,
            {r.version: _tags(state, r) for r in released},
            {version: (name, folder) for version, (name, folder) in folders.items() if folder},
        )


def _tags(state: State, release: Release) -> dict[str, str]:
    given = [
        {"person": a.person, "role": a.role, "decision": a.decision, "expires": a.expires}
        for a in release.approvals
        if a.report == release.report
    ]
    facts = {
        "stage": state.stage(release.manifest),
        "gates": "passed" if release.passed else "failed",
        "gate_report": release.report,
        "approvals": json.dumps(given),
    }
    return {MANIFEST: release.manifest} | {PREFIX + name: text for name, text in facts.items()}
