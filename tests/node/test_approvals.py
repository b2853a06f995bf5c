"""No plan runs before this node's people approved it, and only they can."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fedprofile.errors import PolicyRefusal, UsageError
from fedprofile.node.approvals import PENDING_AT_MOST, asked_plans, check_approved, decide, describe, uploads
from fedprofile.node.audit import log_of
from fedprofile.node.session import SessionKeeper
from fedprofile.node.source import column_names

TODAY = datetime.now(UTC).date()


@pytest.fixture
def home(world):
    asking = world.home("tax")
    asking.configure(approve="ask")
    return asking


def ask(home, plan, today=TODAY) -> bool:
    return check_approved(home, plan, "strict", today)


def test_a_node_by_rule_asks_nobody(world):
    assert ask(world.home("tax"), world.job.plan)
    assert not (world.home("tax").path / "plans").exists()


def test_a_plan_waits_until_it_is_approved_and_no_longer_than_that(world, home):
    plan = world.job.plan
    assert not ask(home, plan)
    assert not ask(home, plan)
    (asked,) = asked_plans(home)
    assert (asked.plan, asked.decision, asked.id) == (plan, "pending", plan.hash.hex()[:12])
    decide(home, asked.id[:4], True, TODAY + timedelta(days=1))
    decided = list(log_of(home).chain)[-1]
    assert (decided["decision"], decided["by"], decided["plan"]) == ("approved", "people", plan.hash.hex())
    assert decided["columns"] == column_names(home.path / "table.parquet")
    assert ask(home, plan)
    assert ask(home, plan, TODAY + timedelta(days=1))
    assert not ask(home, plan, TODAY + timedelta(days=2)), "an approval ends"
    assert not ask(home, replace(plan, seed=9)), "another plan is another question"


def test_a_refused_plan_is_refused_until_somebody_says_otherwise(world, home):
    ask(home, world.job.plan)
    decide(home, world.job.plan.hash.hex(), False, TODAY)
    with pytest.raises(PolicyRefusal, match="plan_refused"):
        ask(home, world.job.plan)
    decide(home, world.job.plan.hash.hex(), True, TODAY)
    assert ask(home, world.job.plan)


@pytest.mark.parametrize("field", ["decision", "until", "plan", "signature"])
def test_a_decision_that_this_node_did_not_sign_is_none(world, home, field):
    plan = world.job.plan
    ask(home, plan)
    decide(home, plan.hash.hex(), False, TODAY)
    file = home.path / "plans" / f"{plan.hash.hex()}.json"
    raw = json.loads(file.read_text())
    changed = {
        "decision": "approved",
        "until": "2999-01-01",
        "plan": json.loads(replace(plan, seed=9).to_json()),
        "signature": "00" * 64,
    }
    file.write_text(json.dumps({**raw, field: changed[field]}))
    with pytest.raises(UsageError, match="changed by somebody else"):
        ask(home, plan)


def test_bad_names_and_dates(world, home):
    ask(home, world.job.plan)
    for name in ("", "zz"):
        with pytest.raises(UsageError, match="plans are named"):
            decide(home, name, True, TODAY)
    with pytest.raises(UsageError, match="past"):
        decide(home, world.job.plan.hash.hex(), True, TODAY - timedelta(days=1))


def test_a_flood_of_plans_is_refused(world, home):
    for seed in range(PENDING_AT_MOST):
        assert not ask(home, replace(world.job.plan, seed=seed + 1))
    with pytest.raises(PolicyRefusal, match="plan_refused"):
        ask(home, replace(world.job.plan, seed=-1))


def test_what_is_shown_before_yes(world, home):
    ask(home, world.job.plan)
    (asked,) = asked_plans(home)
    shown = describe(asked, world.job.policy, ["income"])
    assert shown["your_columns"] == ["income"]
    assert (shown["label_eps"], shown["label_eps_total"]) == (2.0, 4.0 if len(world.job.plan.tasks) == 2 else 2.0)
    assert shown["uploads_at_most"] == uploads(world.job.plan) == 2 * world.job.plan.learning.rounds + 3


def test_a_coordinator_asks_again_until_all_have_approved(world, monkeypatch):
    """And until then no key is agreed and no row is read."""
    monkeypatch.setattr(SessionKeeper, "begin", lambda _: pytest.fail("keys before approval"))
    home, waited = world.home("tax"), []
    home.configure(approve="ask")
    world.restart("tax")

    def pending(parties):
        waited.append(parties)
        if len(waited) == 3:
            monkeypatch.undo()
            decide(home, world.job.plan.hash.hex(), True, TODAY)

    from fedprofile.coordinator.rounds import Watch

    outcome = world.drive(world.exchange(Watch(pending=pending)))
    assert waited == [("tax",)] * 3
    assert len(outcome.summaries) == world.job.plan.learning.rounds
