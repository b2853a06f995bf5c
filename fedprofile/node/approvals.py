"""Plans that ask for this node's approval, and what its people decided. No row is read for a plan before that.

::

    plans/HASH.json    the plan, when it was first seen, and the decision: signed by this node, valid until a day

A node whose configuration says ``approve: auto`` lets its policy decide alone, as every simulated node does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from fedprofile.errors import ProtocolError, UsageError
from fedprofile.governance.audit import Decided
from fedprofile.node.audit import record
from fedprofile.node.budgets import label_eps
from fedprofile.node.home import NodeHome
from fedprofile.node.policy import write_json
from fedprofile.node.snapshot import TABLE
from fedprofile.node.source import column_names
from fedprofile.secagg.codes import refusal
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import Policy, RunPlan, canonical

FOLDER, PENDING_AT_MOST = "plans", 100
_DECISION = "plan-decision"
_LINE = 120


@dataclass(frozen=True)
class AskedPlan:
    """``decision`` is "pending", "approved" or "refused"; ``until`` the last day on which an approval counts."""

    plan: RunPlan
    profile: str
    seen: str
    decision: str = "pending"
    until: str = ""

    @property
    def id(self) -> str:
        """Enough of the plan's hash to name it."""
        return self.plan.hash.hex()[:12]


def asked_plans(home: NodeHome) -> Iterator[AskedPlan]:
    """All plans that were ever asked for, the oldest first."""
    files = sorted((home.path / FOLDER).glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    identity = Identity.from_seed(home.derive("identity"))
    for file in files:
        yield _read(file, identity)


def check_approved(home: NodeHome, plan: RunPlan, profile: str, today: date) -> bool:
    """Whether the plan may run now; one that was never seen is noted and waits.

    Raises PolicyRefusal("plan_refused") where somebody said no, or too many plans wait.
    """
    if home.config.approve == "auto":
        return True
    identity = Identity.from_seed(home.derive("identity"))
    file = _file(home, plan)
    if not file.exists():
        if sum(1 for p in asked_plans(home) if p.decision == "pending") >= PENDING_AT_MOST:
            raise refusal("plan_refused", "too many plans wait for a decision")
        file.parent.mkdir(exist_ok=True, mode=0o700)
        seen = datetime.now(UTC).isoformat(timespec="seconds")
        _write(file, AskedPlan(plan, profile, seen), b"")
        return False
    held = _read(file, identity)
    if held.decision == "refused":
        raise refusal("plan_refused", "this node's people said no")
    return held.decision == "approved" and date.fromisoformat(held.until) >= today


def decide(home: NodeHome, name: str, approved: bool, until: date) -> AskedPlan:
    """Keep a signed decision, in the audit log before it counts. ``name``: the plan's id or the beginning of it.

    Raises UsageError for none or several such plans, or an approval that has ended already.
    """
    found = [p for p in asked_plans(home) if p.plan.hash.hex().startswith(name)]
    if len(found) != 1 or not name:
        known = ", ".join(p.id for p in asked_plans(home)) or "none"
        raise UsageError(f"{len(found)} plans are named {name!r}", f"Known: {known}.")
    if approved and until < datetime.now(UTC).date():
        raise UsageError("an approval cannot end in the past", "Give a later day with --until.")
    asked = found[0]
    decision: Literal["approved", "refused"] = "approved" if approved else "refused"
    last = until.isoformat() if approved else ""
    settled = AskedPlan(asked.plan, asked.profile, asked.seen, decision, last)
    identity = Identity.from_seed(home.derive("identity"))
    record(home, decided(home, asked.plan, decision, "people", last or None))
    _write(_file(home, asked.plan), settled, identity.sign(_DECISION, _decision(settled)))
    return settled


def decided(
    home: NodeHome,
    plan: RunPlan,
    decision: Literal["approved", "refused"],
    by: Literal["people", "policy"],
    until: str | None = None,
) -> Decided:
    """What the audit log says of a decision; ``columns`` are those that the plan or the snapshot names, by name.

    A plan that is refused was written by others: of its texts no more than a line is kept.
    """
    agreed, table = plan.schemas.get(home.config.role), home.path / TABLE
    columns = agreed.columns if agreed else tuple(column_names(table)) if table.exists() else ()
    tasks = tuple(t.name[:_LINE] for t in plan.tasks[:_LINE])
    return Decided(
        decision, by, plan.hash.hex(), plan.run_id.hex(), plan.purpose[:_LINE], tasks, columns,
        plan.learning.rounds, label_eps(plan), until,
    )  # fmt: skip


def describe(asked: AskedPlan, policy: Policy, columns: Sequence[str]) -> dict[str, Any]:
    """What a partner has to know before it says yes; ``columns`` are those of its own table that a run reads."""
    plan, learning = asked.plan, asked.plan.learning
    eps = plan.label_eps
    return {
        "id": asked.id,
        "decision": asked.decision,
        "until": asked.until,
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


def uploads(plan: RunPlan) -> int:
    """Masked vectors that a node sends at most, retries aside: counts, updates and encoders, gains, scores."""
    return 1 + 2 * plan.learning.rounds + 1 + 1


def _file(home: NodeHome, plan: RunPlan) -> Path:
    return home.path / FOLDER / f"{plan.hash.hex()}.json"


def _decision(asked: AskedPlan) -> bytes:
    return canonical({"plan": asked.plan.hash.hex(), "decision": asked.decision, "until": asked.until})


def _write(file: Path, asked: AskedPlan, signature: bytes) -> None:
    plain = {"profile": asked.profile, "seen": asked.seen, "decision": asked.decision, "until": asked.until}
    plan = json.loads(asked.plan.to_json())
    write_json(file, {"plan": plan, **plain, "signature": signature.hex()})


def _read(file: Path, identity: Identity) -> AskedPlan:
    """Raises UsageError for a decision that this node did not sign."""
    try:
        raw = json.loads(file.read_text())
        plan = RunPlan.from_json(canonical(raw["plan"]))
        asked = AskedPlan(plan, raw["profile"], raw["seen"], raw["decision"], raw["until"])
        if asked.decision != "pending":
            verify(identity.sign_pk, _DECISION, _decision(asked), bytes.fromhex(raw["signature"]))
    except (ProtocolError, ValueError, KeyError, TypeError):
        raise UsageError(f"{file} was changed by somebody else", "Find out who; remove it to be asked again.") from None
    return asked
