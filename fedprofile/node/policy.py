"""A node's own limits, its pinned roster, and the check of a plan against both: the client decides."""

from __future__ import annotations

import json

from fedprofile.errors import PolicyRefusal, RemoteProtocolError
from fedprofile.node.home import NodeHome
from fedprofile.types import Policy, Roster, RunPlan


def read_roster(home: NodeHome) -> Roster:
    """The roster that this node pinned: the coordinator only carries others."""
    return Roster.from_json(json.loads((home.path / "roster.json").read_text()))


def read_policy(home: NodeHome) -> Policy:
    return Policy.from_json(json.loads((home.path / "policy.json").read_text()))


def check_plan(plan: RunPlan, pinned: Roster, policy: Policy, align: str) -> None:
    """``align`` is the node's own choice of how ids are compared.

    Raises PolicyRefusal for a plan outside this node's limits, RemoteProtocolError for one that is not about it.
    """
    if plan.roster_hash != pinned.hash:
        raise RemoteProtocolError("wrong_roster", "the plan names another roster than the pinned one")
    if plan.align != align:
        raise PolicyRefusal("align_mismatch", "this node's own configuration compares ids in another way")
    if plan.policy_hash != policy.hash:
        raise PolicyRefusal("wrong_policy", "the plan was made under other limits than this node's")
    unknown = [t.name for t in plan.tasks if policy.tasks and t.name not in policy.tasks]
    if unknown:
        raise PolicyRefusal("task_refused", f"this node's policy does not list {len(unknown)} of the tasks")
    if plan.min_release < policy.min_customers:
        raise PolicyRefusal("release_too_small", "the plan allows smaller label releases than this node's policy")
    if plan.min_views < min_views(policy):
        raise PolicyRefusal("too_few_views", "the plan opens scores of customers that too few nodes know")
    if policy.recompute and not plan.recompute:
        raise PolicyRefusal("not_verifiable", "under the plan this node could not recompute the shared weights")


def min_views(policy: Policy) -> int:
    """How many nodes must know a customer before scores are summed (secure-sum 9.7)."""
    return policy.min_hidden + policy.colluders
