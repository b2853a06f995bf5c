"""What a node has spent and what is left of it: counts from its journal against the limits in force.

The journal is another thread's or process's to write and to mend. Here only whole lines are read, each of them once.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedprofile.governance.audit import Spent
from fedprofile.node.home import NodeHome
from fedprofile.node.policy import read_common, read_policy
from fedprofile.secagg.policy import stricter
from fedprofile.secagg.record import DAY_SECONDS
from fedprofile.types import Policy, RunPlan


@dataclass
class Tally:
    """Counts of journal events. ``uploads`` by run, ``days`` by UTC day, ``kinds`` by kind of sum, retries included."""

    uploads: Counter[str] = field(default_factory=Counter)
    days: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    rounds: dict[str, int] = field(default_factory=dict)
    scores: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, event: dict[str, Any]) -> None:
        """Counts as ``fedprofile.secagg.record`` does where it enforces the limits."""
        if event["event"] == "refused":
            self.refused[event["code"]] += 1
        if event["event"] == "upload":
            run = event["run"]
            self.uploads[run] += 1
            self.days[event["at"] // DAY_SECONDS] += 1
            self.kinds[event["kind"]] += 1
            if event["kind"] == "update":
                self.rounds[run] = max(event["t"], self.rounds.get(run, 0))
        if event["event"] in ("upload", "open") and event["score"]:
            self.scores[event["score"]] = (event["run"], event["t"])


class JournalTail:
    """Reads on from where it stopped."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._tally = path, 0, Tally()

    def read(self) -> Tally:
        try:
            with open(self._path, "rb") as handle:
                handle.seek(self._at)
                data = handle.read()
        except FileNotFoundError:
            return self._tally
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._tally.add(json.loads(line))
        self._at += len(whole)
        return self._tally


@dataclass(frozen=True)
class Budget:
    """``used`` of ``limit``; what is left is never below 0, though a limit may be lowered under what was used."""

    used: int
    limit: int

    @property
    def left(self) -> int:
        return max(self.limit - self.used, 0)


@dataclass(frozen=True)
class Budgets:
    """Masked uploads of the run and of the UTC day, and openings of score sums.

    ``label_eps``: what the approved plan's label release spends per customer, over its tasks; None without one. It is
    spent once for ever (secure-sum 9.8), so no budget of it is left to count.
    """

    uploads_run: Budget
    uploads_day: Budget
    openings: Budget
    label_eps: float | None
    round: int
    rounds: int


def limits(home: NodeHome) -> Policy:
    """What is in force: the stricter of the node's own and the federation's. Raises UsageError for a changed file."""
    return stricter(read_policy(home), read_common(home))


def budgets(home: NodeHome, tally: Tally, now: float) -> Budgets:
    """``now``: seconds since 1970."""
    policy, raw = limits(home), home.read("plan.json")
    plan = RunPlan.from_json(raw) if raw else None
    run = plan.run_id.hex() if plan else ""
    return Budgets(
        uploads_run=Budget(tally.uploads[run], policy.max_uploads),
        uploads_day=Budget(tally.days[int(now) // DAY_SECONDS], policy.max_uploads_day),
        openings=Budget(len(set(tally.scores.values())), policy.max_openings),
        label_eps=label_eps(plan) if plan else None,
        round=tally.rounds.get(run, 0),
        rounds=plan.learning.rounds if plan else 0,
    )


def label_eps(plan: RunPlan) -> float | None:
    """What a plan's label release spends per customer, over its tasks; None without one."""
    return None if plan.label_eps is None else plan.label_eps * len(plan.tasks)


def spent(home: NodeHome, plan: RunPlan) -> Spent:
    """What a run took, retries included, by this node's own journal."""
    run, tally = plan.run_id.hex(), JournalTail(home.keys / "journal.jsonl").read()
    opened = sum(held == run for held, _ in set(tally.scores.values()))
    return Spent(run, plan.purpose, tally.uploads[run], opened, label_eps(plan))
