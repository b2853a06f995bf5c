from dataclasses import replace

import pytest

from fedprofile.errors import PolicyRefusal, RemoteProtocolError
from fedprofile.node.policy import check_plan, min_views, read_policy, read_roster
from fedprofile.types import Policy, Task


def check(world, plan=None, policy=None):
    plan, policy = plan or world.job.plan, policy or world.job.policy
    check_plan(replace(plan, policy_hash=policy.hash), world.job.roster, policy, "psi")


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
        "wrong_policy": lambda: check_plan(plan, world.job.roster, replace(policy, clip=9.0), "psi"),
    }
    for code, call in refused.items():
        with pytest.raises(PolicyRefusal) as error:
            call()
        assert error.value.code == code


def test_a_stricter_plan_is_approved_and_no_listed_task_means_any(world):
    check(world, replace(world.job.plan, min_views=3))
    check(world, policy=replace(world.job.policy, recompute=False))
    check(world, replace(world.job.plan, tasks=(Task("income", "binary", 2),)), replace(world.job.policy, tasks=()))


def test_a_release_smaller_than_the_nodes_own_minimum_is_refused(world):
    with pytest.raises(PolicyRefusal):
        check(world, replace(world.job.plan, min_release=world.job.policy.min_customers - 1))


def test_views_grow_with_the_colluders_that_are_tolerated():
    assert min_views(Policy(min_hidden=2, colluders=1)) == 3
