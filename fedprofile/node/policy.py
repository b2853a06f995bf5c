"""A node's own limits, the federation's, its pinned roster, and the check of a plan against all: the client decides.

``policy.json`` is the node's own and signed by it, so that nobody who can write to the disk loosens it unseen. It may
be stricter than the federation's (``federation.json``, pinned with the roster) and never laxer: the stricter of both
counts, field by field.
"""

from __future__ import annotations

import json
from pathlib import Path

from fedprofile.errors import PolicyRefusal, ProtocolError, RemoteProtocolError, UsageError
from fedprofile.files import replace_private
from fedprofile.node.home import NodeHome
from fedprofile.secagg.identity import Identity, verify
from fedprofile.secagg.policy import stricter
from fedprofile.types import Policy, Roster, RunPlan, canonical

ROSTER, POLICY, COMMON = "roster.json", "policy.json", "federation.json"
_SIGNED = "policy"


def read_roster(home: NodeHome) -> Roster:
    """The roster that this node pinned: the coordinator only carries others.

    Raises UsageError before this node has signed one.
    """
    if not (home.path / ROSTER).exists():
        raise UsageError(f"{home.path} is in no federation yet", "Sign an invitation: `fedprofile node sign-roster`.")
    return Roster.from_json(json.loads((home.path / ROSTER).read_text()))


def write_policy(home: NodeHome, policy: Policy) -> None:
    """Sign and keep this node's own limits."""
    identity = Identity.from_seed(home.derive("identity"))
    signature = identity.sign(_SIGNED, canonical(policy.to_json()))
    held = {"policy": policy.to_json(), "signature": signature.hex()}
    write_json(home.path / POLICY, held)


def read_policy(home: NodeHome) -> Policy:
    """This node's own limits. Raises UsageError for a file that this node did not sign as it is."""
    path, identity = home.path / POLICY, Identity.from_seed(home.derive("identity"))
    try:
        held = json.loads(path.read_text())
        verify(identity.sign_pk, _SIGNED, canonical(held["policy"]), bytes.fromhex(held["signature"]))
        return Policy.from_json(held["policy"])
    except FileNotFoundError:
        raise UsageError(f"{path} is missing", "Set one: `fedprofile node policy HOME`.") from None
    except (ProtocolError, ValueError, KeyError, TypeError):
        mend = "Find out who changed it; `fedprofile node policy HOME` shows, changes and signs it."
        raise UsageError(f"{path} was changed by somebody else", mend) from None


def read_common(home: NodeHome) -> Policy:
    """The federation's limits, which every member pinned with the roster; a simulated node's own where none are."""
    path = home.path / COMMON
    return Policy.from_json(json.loads(path.read_text())) if path.exists() else read_policy(home)


def write_json(path: Path, value: object) -> None:
    """Replaced as a whole, and on disk when it returns."""
    replace_private(path, json.dumps(value, indent=1).encode())


def check_plan(plan: RunPlan, pinned: Roster, own: Policy, common: Policy, align: str) -> None:
    """``align`` is the node's own choice of how ids are compared.

    Raises PolicyRefusal for a plan outside this node's limits, RemoteProtocolError for one that is not about it.
    """
    if plan.roster_hash != pinned.hash:
        raise RemoteProtocolError("wrong_roster", "the plan names another roster than the pinned one")
    if plan.align != align:
        raise PolicyRefusal("align_mismatch", "this node's own configuration compares ids in another way")
    if plan.policy_hash != common.hash:
        raise PolicyRefusal("wrong_policy", "the plan was made under other limits than the federation's")
    policy = stricter(own, common)
    # both lists, not the one that ``stricter`` keeps: an empty one means any task, so they do not intersect as sets
    lists = [limits.tasks for limits in (own, common) if limits.tasks]
    unknown = [t.name for t in plan.tasks if any(t.name not in listed for listed in lists)]
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
