"""Field by field: a node's own limit counts where it is stricter than the federation's, and never where it is laxer."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import PolicyRefusal
from fedprofile.node.policy import check_plan
from fedprofile.secagg.policy import stricter
from fedprofile.types import Policy, Task

MIDDLE = Policy(
    min_hidden=3, colluders=1, min_customers=100, tasks=("invest", "tier"), max_uploads=100, max_uploads_day=1000,
    max_openings=6, max_points=1000, clip=0.5, rings=(16, 32), recompute=False, accept_differencing=False,
)  # fmt: skip
# field: a stricter and a laxer value than MIDDLE's; None where MIDDLE's is the end of the order
ORDER = {
    "min_hidden": (4, 2),
    "colluders": (2, 0),
    "min_customers": (101, 99),
    "max_uploads": (99, 101),
    "max_uploads_day": (999, 1001),
    "max_openings": (5, 7),
    "max_points": (999, 1001),
    "clip": (0.25, 1.0),
    "rings": ((16,), (16, 32, 64)),
    "recompute": (True, None),
    "accept_differencing": (None, True),
}


def test_every_field_has_its_order_here():
    assert ORDER.keys() | {"tasks"} == {f.name for f in fields(Policy)}, "tasks: below, held against a plan"


@pytest.mark.parametrize("field", ORDER)
def test_the_stricter_of_both_counts_whoever_names_it(field):
    tighter, laxer = ORDER[field]
    held = getattr(MIDDLE, field)
    for value, wanted in ((tighter, tighter), (laxer, held), (held, held)):
        if value is None:
            continue
        other = replace(MIDDLE, **{field: value})
        for both in (stricter(other, MIDDLE), stricter(MIDDLE, other)):
            assert getattr(both, field) == wanted
            assert replace(both, **{field: held}) == MIDDLE, "other fields stay"


@pytest.mark.parametrize(
    ("own", "common", "planned", "refused"),
    [
        ((), (), ("a",), False),
        (("a",), (), ("a",), False),
        (("a",), (), ("a", "b"), True),
        ((), ("a",), ("a",), False),
        ((), ("a",), ("b",), True),
        (("a",), ("a", "b"), ("a",), False),
        (("a",), ("a", "b"), ("a", "b"), True),
        (("a", "b"), ("a",), ("b",), True),
        (("a",), ("b",), ("a",), True),
        (("a",), ("b",), ("b",), True),
    ],
)
def test_a_task_is_on_both_lists_or_refused(world, own, common, planned, refused):
    """An empty list is any task; a node that lists more than the federation adds nothing to what may be learned."""
    mine, theirs = replace(world.job.policy, tasks=own), replace(world.job.policy, tasks=common)
    plan = replace(world.job.plan, tasks=tuple(Task(t, "binary", 2) for t in planned), policy_hash=theirs.hash)
    for limits in (mine, stricter(mine, theirs)):  # what a node keeps, and what it goes by
        if refused:
            with pytest.raises(PolicyRefusal, match="task_refused"):
                check_plan(plan, world.job.roster, limits, theirs, "psi")
        else:
            check_plan(plan, world.job.roster, limits, theirs, "psi")


POLICIES = st.builds(
    Policy,
    min_hidden=st.integers(1, 5),
    colluders=st.integers(0, 3),
    min_customers=st.integers(0, 500),
    max_uploads=st.integers(0, 500),
    max_uploads_day=st.integers(0, 500),
    max_openings=st.integers(0, 20),
    max_points=st.integers(0, 500),
    clip=st.floats(0.01, 2),
    rings=st.sets(st.sampled_from((16, 32, 64))).map(lambda s: tuple(sorted(s))),
    recompute=st.booleans(),
    accept_differencing=st.booleans(),
)


@settings(max_examples=50)
@given(POLICIES, POLICIES, POLICIES)
def test_it_is_a_meet(a, b, c):
    """Idempotent, commutative, associative: it does not matter who tightened what first."""
    assert stricter(a, a) == a
    assert stricter(a, b) == stricter(b, a)
    assert stricter(stricter(a, b), c) == stricter(a, stricter(b, c))
