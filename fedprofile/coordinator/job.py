"""What the coordinator is told: the plan, the roster, the common policy. A plain file, the same in every place."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fedprofile.secagg.setup_messages import Kem, Profile
from fedprofile.types import Policy, Roster, RunPlan


@dataclass(frozen=True)
class Job:
    """``profile`` is "strict", "resilient" (nodes may vanish) or, for research only, "none" (no masks).

    ``kem`` is what pair keys are agreed with, as every node's own configuration has to say too.
    """

    plan: RunPlan
    roster: Roster
    policy: Policy
    profile: Profile
    kem: Kem = "x25519"

    def to_json(self) -> str:
        body = {
            "plan": json.loads(self.plan.to_json()),
            "roster": self.roster.to_json(),
            "policy": self.policy.to_json(),
            "profile": self.profile,
            "kem": self.kem,
        }
        return json.dumps(body, indent=1)

    @staticmethod
    def from_json(text: str) -> Job:
        data = json.loads(text)
        return Job(
            RunPlan.from_json(json.dumps(data["plan"]).encode()),
            Roster.from_json(data["roster"]),
            Policy.from_json(data["policy"]),
            data["profile"],
            data["kem"],
        )
