"""No plan runs before this node's people approved it, and only they can."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fedprofile.errors import PolicyRefusal, UsageError
from fedprofile.node.approvals import PENDING_AT_MOST, Approval, check_approved, decide, describe, uploads, why_asked
from fedprofile.node.audit import begun_under, log_of
from fedprofile.node.plans import asked_plans
from fedprofile.node.session import SessionKeeper
from fedprofile.node.source import column_names

TODAY = datetime.now(UTC).date()


@pytest.fixture
def home(world):
    asking = world.home("tax")
    asking.configure(approve="ask")
    return asking


def ask(home, plan, today=TODAY) -> bool:
    return check_approved(home, plan, today, {}) is not None


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


def test_an_approval_is_of_its_own_plan_only(world, home):
    plan, other = world.job.plan, replace(world.job.plan, label_eps=None)
    ask(home, plan)
    decide(home, plan.hash.hex(), True, TODAY)
    approved = home.path / "plans" / f"{plan.hash.hex()}.json"
    approved.with_name(f"{other.hash.hex()}.json").write_bytes(approved.read_bytes())
    with pytest.raises(UsageError, match="changed by somebody else"):
        ask(home, other)


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
    shown = describe(asked, world.job.policy, ["income"], {})
    assert shown["your_columns"] == ["income"]
    assert (shown["label_eps"], shown["label_eps_total"]) == (2.0, 4.0 if len(world.job.plan.tasks) == 2 else 2.0)
    assert shown["uploads_at_most"] == uploads(world.job.plan) == 2 * world.job.plan.learning.rounds + 3


# -- standing approvals ----------------------------------------------------------------------------
def another(plan, number=1, **changes):
    """A later run, which draws a run id of its own."""
    return replace(plan, run_id=bytes([number]) * 32, **changes)


@pytest.fixture
def approved(world, home):
    """The plan of ``world`` is approved for three runs in all."""
    ask(home, world.job.plan)
    return decide(home, world.job.plan.hash.hex(), True, TODAY + timedelta(days=9), runs=3)


@pytest.fixture
def say(world):
    """What the tax office's node answers to a plan that the coordinator asks for."""
    return lambda plan: world.ask("tax", "plan", world.plan_body(plan)).type


def test_later_plans_run_under_a_standing_approval_as_often_as_it_says(world, home, approved, say):
    first, second, third = (another(world.job.plan, n) for n in (1, 2, 3))
    assert [say(first), say(second), say(first)] == ["approval"] * 3, "one that is asked again is no new run"
    assert say(third) == "pending"
    plain, standing = {"decision": "approved", "by": "policy"}, approved.plan.hash.hex()
    lines = [line for line in log_of(home).chain if line["event"] == "plan"]
    assert [line.get("runs") for line in lines] == [3, None, None]
    for line, plan in zip(lines[1:], (first, second), strict=True):
        assert {k: line[k] for k in plain} == plain
        assert (line["plan"], line["under"], line["until"]) == (plan.hash.hex(), standing, approved.until)
    shown = {p.id: describe(p, world.job.policy, [], begun_under(home)) for p in asked_plans(home)}
    ids = [plan.hash.hex()[:12] for plan in (first, second, third)]
    assert [shown[id]["approved_under"] for id in ids] == [approved.id, approved.id, ""]
    assert shown[approved.id]["runs_left"] == 0
    held = next(p for p in asked_plans(home) if p.plan == third)
    assert why_asked(home, held, TODAY, begun_under(home)) == {approved.id: ["its runs have all begun"]}


def test_runs_are_counted_by_the_log_whatever_becomes_of_files_and_process(world, home, approved, say):
    assert [say(another(world.job.plan, n)) for n in (1, 2)] == ["approval"] * 2
    for file in (home.path / "plans").glob("*.json"):
        if file.stem != approved.plan.hash.hex():
            file.unlink()
    home.clear_run()
    world.restart("tax")
    assert say(another(world.job.plan, 1)) == "approval", "it has begun"
    assert say(another(world.job.plan, 3)) == "pending"
    assert sum("under" in line for line in log_of(home).chain) == 2


def test_a_crash_before_the_log_was_written_leaves_no_run_uncounted(world, home, approved, say, monkeypatch):
    first = another(world.job.plan)
    with monkeypatch.context() as patch:
        patch.setattr(type(world.node("tax").audit), "sent", lambda *_: pytest.fail("power cut"))
        with pytest.raises(pytest.fail.Exception):
            say(first)
    assert home.read("plan.json") == first.to_json()
    world.restart("tax")
    assert say(first) == "approval"
    assert begun_under(home) == {approved.plan.hash.hex(): {first.hash.hex()}}


@pytest.mark.parametrize("end", ["refused", "one run", "expired"])
def test_plans_to_come_ask_again_once_it_has_ended(world, home, approved, end):
    first, name = another(world.job.plan), approved.plan.hash.hex()
    assert ask(home, first)
    if end == "refused":
        decide(home, name, False, TODAY)
    if end == "one run":
        decide(home, name, True, TODAY + timedelta(days=9))
    later = TODAY + timedelta(days=10 if end == "expired" else 0)
    assert not ask(home, another(world.job.plan, 2), later)
    assert not ask(home, first, later), "nor does a run begin again that was under it"
    assert {p.decision for p in asked_plans(home) if p.plan != approved.plan} == {"pending"}


def test_a_plan_that_asks_for_more_waits_and_says_why(world, home, approved):
    learning = replace(world.job.plan.learning, rounds=world.job.plan.learning.rounds + 1)
    more = another(world.job.plan, learning=learning)
    assert not ask(home, more)
    asked = next(p for p in asked_plans(home) if p.plan == more)
    (reason,) = why_asked(home, asked, TODAY, {})[approved.id]
    assert reason == f"rounds: {learning.rounds} asked, {learning.rounds - 1} approved"
    decide(home, more.hash.hex(), True, TODAY)
    assert check_approved(home, more, TODAY, {}) == Approval("people", TODAY.isoformat())


def test_a_refusal_of_one_plan_is_stronger_than_a_standing_approval(world, home, approved):
    first = another(world.job.plan)
    assert ask(home, first)
    decide(home, first.hash.hex(), False, TODAY)
    with pytest.raises(PolicyRefusal, match="plan_refused"):
        ask(home, first)


def test_what_this_node_itself_brings_is_part_of_it(world, home, approved):
    first = another(world.job.plan)
    home.configure(profile="resilient")
    assert not ask(home, first)
    home.configure(profile="strict")
    table = pl.read_parquet(home.path / "table.parquet")
    table.with_columns(debts=pl.lit(1.0)).write_parquet(home.path / "table.parquet")
    assert not ask(home, first), "a column more than people were shown"
    table.drop(table.columns[-1]).write_parquet(home.path / "table.parquet")
    assert ask(home, first)


@pytest.mark.parametrize("field", ["runs", "columns", "profile", "under", "until"])
def test_no_part_of_a_standing_approval_can_be_changed(world, home, approved, field):
    file = home.path / "plans" / f"{approved.plan.hash.hex()}.json"
    changed = {"runs": 99, "columns": ["x"], "profile": "none", "under": "ab", "until": "2999-01-01"}
    file.write_text(json.dumps({**json.loads(file.read_text()), field: changed[field]}))
    with pytest.raises(UsageError, match="changed by somebody else"):
        ask(home, another(world.job.plan))


def test_a_decision_of_an_earlier_release_still_counts(world, home):
    """It has no field of standing approvals, neither in the file nor under the signature."""
    plan = world.job.plan
    ask(home, plan)
    decide(home, plan.hash.hex(), True, TODAY)
    file = home.path / "plans" / f"{plan.hash.hex()}.json"
    plain = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("runs", "columns", "under")}
    file.write_text(json.dumps(plain))
    assert ask(home, plan)
    assert not ask(home, another(plan)), "and is for one plan"


def test_an_approval_of_no_run_is_refused(world, home):
    ask(home, world.job.plan)
    with pytest.raises(UsageError, match="0 runs is none"):
        decide(home, world.job.plan.hash.hex(), True, TODAY, runs=0)


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
