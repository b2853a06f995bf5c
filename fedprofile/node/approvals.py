"""Plans that ask for this node's approval, and what its people decided. No row is read for a plan before that.

A node whose configuration says ``approve: auto`` lets its policy decide alone, as every simulated node does. An
approval by hand of more than one run is a *standing* one: later plans that ask for no more
(``fedprofile.node.standing``) run under it without asking, until its day, its number of runs by the audit log, or its
people's "no".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Literal

from fedprofile.errors import UsageError
from fedprofile.governance.audit import Decided
from fedprofile.node.audit import Begun, log_of
from fedprofile.node.budgets import label_eps
from fedprofile.node.home import NodeHome
from fedprofile.node.plans import SHORT, AskedPlan, asked_plans, file_of, keep, read
from fedprofile.node.snapshot import TABLE
from fedprofile.node.source import column_names
from fedprofile.node.standing import Terms, covers
from fedprofile.secagg.codes import refusal
from fedprofile.secagg.identity import Identity
from fedprofile.types import Policy, RunPlan

PENDING_AT_MOST = 100
_LINE = 120


@dataclass(frozen=True)
class Approval:
    """Who lets a plan run. ``under``: hash of the plan whose standing approval covers it."""

    by: Literal["people", "policy"]
    until: str | None = None
    under: str | None = None


def check_approved(home: NodeHome, plan: RunPlan, today: date, begun: Begun) -> Approval | None:
    """What lets the plan run now; None where it waits for people, who find it noted.

    ``begun``: by the audit log. Raises PolicyRefusal("plan_refused") where somebody said no, or too many plans wait.
    """
    if home.config.approve == "auto":
        return Approval("policy")
    file = file_of(home, plan)
    held = read(file, Identity.from_seed(home.derive("identity"))) if file.exists() else None
    if held and held.decision == "refused":
        raise refusal("plan_refused", "this node's people said no")
    if held and not held.under and held.holds(today):
        return Approval("people", held.until)
    asked = held or AskedPlan(plan, home.config.profile, datetime.now(UTC).isoformat(timespec="seconds"))
    known = list(asked_plans(home))
    standing = next((g for g in known if g.lets(plan, today, begun) and not why_not(home, g, asked)), None)
    if standing:
        settled = replace(asked, decision="approved", until=standing.until, under=standing.plan.hash.hex())
        if settled != held:
            keep(home, settled)
        return Approval("policy", standing.until, settled.under)
    if held is None and sum(1 for p in known if p.decision == "pending") >= PENDING_AT_MOST:
        raise refusal("plan_refused", "too many plans wait for a decision")
    if held is None or held.under:
        keep(home, replace(asked, decision="pending", until="", under=""))
    return None


def why_not(home: NodeHome, given: AskedPlan, asked: AskedPlan) -> list[str]:
    """Why a standing approval does not cover a plan, for what this node brings today; empty where it does."""
    now = Terms(asked.plan, home.config.profile, own_columns(home, asked.plan))
    return covers(Terms(given.plan, given.profile, given.columns), now)


def decide(home: NodeHome, name: str, approved: bool, until: date, runs: int = 1) -> AskedPlan:
    """Keep a signed decision, in the audit log before it counts. ``name``: the plan's id or the beginning of it.

    ``runs`` > 1 makes a standing approval. Raises UsageError for none or several such plans, an approval that has
    ended already, or one of no run.
    """
    found = [p for p in asked_plans(home) if p.plan.hash.hex().startswith(name)]
    if len(found) != 1 or not name:
        known = ", ".join(p.id for p in asked_plans(home)) or "none"
        raise UsageError(f"{len(found)} plans are named {name!r}", f"Known: {known}.")
    if approved and until < datetime.now(UTC).date():
        raise UsageError("an approval cannot end in the past", "Give --days 0 or more.")
    if runs < 1:
        raise UsageError(f"an approval of {runs} runs is none", "Give --runs 1 or more, or `refuse` the plan.")
    asked = found[0]
    decision: Literal["approved", "refused"] = "approved" if approved else "refused"
    last, standing = until.isoformat() if approved else "", runs > 1
    columns = own_columns(home, asked.plan) if standing else ()
    settled = AskedPlan(asked.plan, asked.profile, asked.seen, decision, last, runs, columns)
    event = decided(home, asked.plan, decision, Approval("people", last or None), runs if standing else None)
    with home.lock():
        log_of(home).write(event)
        keep(home, settled)
    return settled


def decided(
    home: NodeHome,
    plan: RunPlan,
    decision: Literal["approved", "refused"],
    approval: Approval,
    runs: int | None = None,
) -> Decided:
    """What the audit log says of a decision; ``columns`` are those that the plan or the snapshot names, by name.

    A plan that is refused was written by others: of its texts no more than a line is kept.
    """
    tasks = tuple(t.name[:_LINE] for t in plan.tasks[:_LINE])
    return Decided(
        decision, approval.by, plan.hash.hex(), plan.run_id.hex(), plan.purpose[:_LINE], tasks,
        own_columns(home, plan), plan.learning.rounds, label_eps(plan), approval.until, runs, approval.under,
    )  # fmt: skip


def own_columns(home: NodeHome, plan: RunPlan) -> tuple[str, ...]:
    """What this node would bring: the columns that the plan agreed on for its role, else those of its snapshot."""
    agreed, table = plan.schemas.get(home.config.role), home.path / TABLE
    return agreed.columns if agreed else tuple(column_names(table)) if table.exists() else ()


def describe(asked: AskedPlan, policy: Policy, columns: Sequence[str], begun: Begun) -> dict[str, Any]:
    """What a partner has to know before it says yes; ``columns`` are those of its own table that a run reads."""
    plan, learning = asked.plan, asked.plan.learning
    eps = plan.label_eps
    return {
        "id": asked.id,
        "decision": asked.decision,
        "until": asked.until,
        "runs_left": asked.left(begun) if asked.decision == "approved" else 0,
        "approved_under": asked.under[:SHORT],
        "seen": asked.seen,
        "purpose": plan.purpose,
        "tasks": {t.name: f"{t.kind}, {t.classes} classes" for t in plan.tasks},
        "your_columns": list(columns),
        "shared_encoders": sorted(plan.schemas),
        "rounds": learning.rounds,
        "steps": learning.steps,
        "uploads_at_most": uploads(plan),
        "uploads_allowed": policy.max_uploads,
        "openings": ["sums of updates: all members", "sums of scores: the label owner alone, once"],
        "label_eps": eps,
        "label_eps_total": None if eps is None else eps * len(plan.tasks),
        "profile": asked.profile,
        "align": plan.align,
        "recompute": plan.recompute,
        "begins_from": plan.start.hex() or "the seed",
        "min_release": plan.min_release,
        "min_views": plan.min_views,
    }


def why_asked(home: NodeHome, asked: AskedPlan, today: date, begun: Begun) -> dict[str, list[str]]:
    """Why no standing approval covers a plan that waits: reasons by the id of each."""
    return {
        given.id: why_not(home, given, asked) if given.left(begun) else ["its runs have all begun"]
        for given in asked_plans(home)
        if given.stands(today)
    }


def uploads(plan: RunPlan) -> int:
    """Masked vectors that a node sends at most, retries aside: counts, updates and encoders, gains, scores."""
    return 1 + 2 * plan.learning.rounds + 1 + 1
