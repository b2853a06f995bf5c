"""The plans that a node was asked to run, and what was decided of each: one file a plan, signed by this node.

::

    plans/HASH.json    the plan, when it was first seen, and the decision, valid until a day
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from fedprofile.errors import ProtocolError, UsageError
from fedprofile.node.audit import Begun
from fedprofile.node.home import NodeHome
from fedprofile.node.policy import write_json
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import RunPlan, canonical

FOLDER = "plans"
_DECISION = "plan-decision"
SHORT = 12


@dataclass(frozen=True)
class AskedPlan:
    """``decision`` is "pending", "approved" or "refused"; ``until`` the last day on which an approval counts.

    ``runs``: how many it counts for, this one included; ``columns``: of a standing one, those that this node had then.
    ``under``: hash of the plan whose standing approval covers this one, "" where people decided.
    """

    plan: RunPlan
    profile: str
    seen: str
    decision: str = "pending"
    until: str = ""
    runs: int = 1
    columns: tuple[str, ...] = ()
    under: str = ""

    @property
    def id(self) -> str:
        """Enough of the plan's hash to name it."""
        return self.plan.hash.hex()[:SHORT]

    def holds(self, today: date) -> bool:
        return self.decision == "approved" and date.fromisoformat(self.until) >= today

    def stands(self, today: date) -> bool:
        """Whether it is a standing approval that has not ended."""
        return self.runs > 1 and self.holds(today)

    def left(self, begun: Begun) -> int:
        """Further runs that it would let begin."""
        return max(self.runs - 1 - len(begun.get(self.plan.hash.hex(), ())), 0)

    def lets(self, plan: RunPlan, today: date, begun: Begun) -> bool:
        """Whether another plan could run under it: it stands, and a run is left or this one has begun."""
        begun_already = plan.hash.hex() in begun.get(self.plan.hash.hex(), ())
        return self.stands(today) and (begun_already or self.left(begun) > 0)


def asked_plans(home: NodeHome) -> Iterator[AskedPlan]:
    """All plans that were ever asked for, the oldest first."""
    files = sorted((home.path / FOLDER).glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    identity = Identity.from_seed(home.derive("identity"))
    for file in files:
        yield read(file, identity)


def file_of(home: NodeHome, plan: RunPlan) -> Path:
    return home.path / FOLDER / f"{plan.hash.hex()}.json"


def _decision(asked: AskedPlan) -> bytes:
    """What is signed. An approval for one run, by hand, has no more than the first three, as it always had."""
    signed: dict[str, object] = {"plan": asked.plan.hash.hex(), "decision": asked.decision, "until": asked.until}
    if asked.runs > 1:
        signed |= {"runs": asked.runs, "profile": asked.profile, "columns": list(asked.columns)}
    return canonical(signed | ({"under": asked.under} if asked.under else {}))


def keep(home: NodeHome, asked: AskedPlan) -> None:
    """Write it down, signed once it is decided."""
    file, plan = file_of(home, asked.plan), json.loads(asked.plan.to_json())
    file.parent.mkdir(exist_ok=True, mode=0o700)
    identity = Identity.from_seed(home.derive("identity"))
    signature = b"" if asked.decision == "pending" else identity.sign(_DECISION, _decision(asked))
    write_json(file, {**vars(asked), "plan": plan, "signature": signature.hex()})


def read(file: Path, identity: Identity) -> AskedPlan:
    """Raises UsageError for a decision that this node did not sign, or of another plan than the file's name says."""
    try:
        raw = json.loads(file.read_text())
        signature = bytes.fromhex(raw.pop("signature"))
        plan, columns = RunPlan.from_json(canonical(raw["plan"])), tuple(raw.get("columns", ()))
        asked = AskedPlan(**{**raw, "plan": plan, "columns": columns})
        if file.stem != plan.hash.hex():
            raise ValueError
        if asked.decision != "pending":
            verify(identity.sign_pk, _DECISION, _decision(asked), signature)
    except (ProtocolError, ValueError, KeyError, TypeError):
        raise UsageError(f"{file} was changed by somebody else", "Find out who; remove it to be asked again.") from None
    return asked
