import json
from dataclasses import replace

import pytest

from fedprofile.errors import PolicyRefusal, RemoteProtocolError, UsageError
from fedprofile.node.policy import check_plan, min_views, read_policy, read_roster, write_policy
from fedprofile.types import Policy, Task


def check(world, plan=None, policy=None):
    plan, policy = plan or world.job.plan, policy or world.job.policy
    common = world.job.policy
    check_plan(replace(plan, policy_hash=common.hash), world.job.roster, policy, common, "psi")


def test_the_agreed_plan_is_approved(world):
    check(world)
    assert read_roster(world.home("tax")) == world.job.roster
    assert read_policy(world.home("tax")) == world.job.policy


@pytest.mark.parametrize(("field", "code"), [("roster_hash", "wrong_roster")])
def test_a_plan_about_something_else_is_refused(world, field, code):
    with pytest.raises(RemoteProtocolError) as error:
        check(world, replace(world.job.plan, **{field: b"\1" * 32}))
    assert error.value.code == code


def test_a_plan_outside_the_nodes_own_limits_is_refused(world):
    plan, policy = world.job.plan, world.job.policy
    refused = {
        "task_refused": lambda: check(world, replace(plan, tasks=(*plan.tasks, Task("income", "binary", 2)))),
        "too_few_views": lambda: check(world, replace(plan, min_views=1)),
        "not_verifiable": lambda: check(world, replace(plan, recompute=False)),
        "align_mismatch": lambda: check(world, replace(plan, align="plain")),
        "wrong_policy": lambda: check_plan(plan, world.job.roster, policy, replace(policy, clip=9.0), "psi"),
    }
    for code, call in refused.items():
        with pytest.raises(PolicyRefusal) as error:
            call()
        assert error.value.code == code


def test_a_stricter_plan_is_approved_and_no_listed_task_means_any(world):
    check(world, replace(world.job.plan, min_views=3))
    plan, anything = world.job.plan, replace(world.job.policy, tasks=())
    other = replace(plan, tasks=(Task("income", "binary", 2),), policy_hash=anything.hash)
    check_plan(other, world.job.roster, anything, anything, "psi")


def test_a_release_smaller_than_the_nodes_own_minimum_is_refused(world):
    with pytest.raises(PolicyRefusal):
        check(world, replace(world.job.plan, min_release=world.job.policy.min_customers - 1))


def test_views_grow_with_the_colluders_that_are_tolerated():
    assert min_views(Policy(min_hidden=2, colluders=1)) == 3


@pytest.mark.parametrize(
    ("own", "code"),
    [
        ({"min_customers": 10_000}, "release_too_small"),
        ({"min_hidden": 3}, "too_few_views"),
        ({"colluders": 1}, "too_few_views"),
        ({"tasks": ("another",)}, "task_refused"),
    ],
)
def test_a_nodes_own_limits_may_be_stricter_than_the_federations(world, own, code):
    with pytest.raises(PolicyRefusal) as error:
        check(world, policy=replace(world.job.policy, **own))
    assert error.value.code == code


def test_own_limits_are_never_laxer_than_the_federations(world):
    lax = replace(world.job.policy, min_customers=0, min_hidden=1, recompute=False, tasks=())
    check(world, policy=lax)
    with pytest.raises(PolicyRefusal, match="views"):
        check(world, replace(world.job.plan, min_views=1), lax)


def test_a_policy_that_this_node_did_not_sign_is_refused(world):
    home = world.home("tax")
    file = home.path / "policy.json"
    signed = json.loads(file.read_text())
    for changed in (
        {**signed, "policy": {**signed["policy"], "clip": 100.0}},
        {**signed, "signature": "00" * 64},
        signed["policy"],
        [],
    ):
        file.write_text(json.dumps(changed))
        with pytest.raises(UsageError, match="changed by somebody else"):
            read_policy(home)
    file.unlink()
    with pytest.raises(UsageError, match="missing"):
        read_policy(home)
    write_policy(home, replace(world.job.policy, clip=0.5))
    assert read_policy(home).clip == 0.5
