import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile import aggregation as agg
from fedprofile.errors import RemoteProtocolError
from fedprofile.models.layout import shared_shapes
from fedprofile.secagg.encoding import check_layout
from fedprofile.types import LearningPlan, Party, Policy, Roster, Schema, Task

TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
PLANS = st.builds(LearningPlan, rounds=st.integers(1, 30), steps=st.integers(1, 80), lr=st.floats(1e-5, 5e-3))


def roster(*roles: str) -> Roster:
    parties = tuple(Party(f"{role}{i}", role, role, bytes(32)) for i, role in enumerate(roles))
    return Roster(1, b"", parties, "bank0")


def test_next_shared_adds_the_mean_delta():
    shared = {"a": np.array([1, 2], np.float32), "b": np.array([[0.5]], np.float32)}
    opened = {"a": np.array([3.0, -6.0]), "b": np.array([[0.0]]), "meta": np.array([9.0])}
    after = agg.next_shared(shared, opened, 3)
    assert {n: w.tolist() for n, w in after.items()} == {"a": [2, 0], "b": [[0.5]]}
    assert all(w.dtype == np.float32 for w in after.values())
    assert shared["a"].tolist() == [1, 2]


@pytest.mark.parametrize("delta", [None, np.zeros(3), np.array([0.0, np.nan]), np.array([np.inf, 0.0])])
def test_a_sum_that_does_not_fit_is_refused(delta, code_of):
    opened = {} if delta is None else {"a": delta}
    assert code_of(lambda: agg.next_shared({"a": np.zeros(2, np.float32)}, opened, 2)) == "bad_sum"


@given(PLANS)
def test_the_rate_warms_up_and_falls_to_zero(plan):
    rates = [agg.learning_rate(plan, s) for s in range(plan.rounds * plan.steps)]
    peak = int(np.argmax(rates))
    assert rates[0] == pytest.approx(plan.lr / 30)
    assert all(0 < r <= plan.lr for r in rates)
    assert all(a >= b for a, b in itertools.pairwise(rates[max(peak, 30) :]))
    assert agg.learning_rate(plan, len(rates)) == pytest.approx(0)


@given(PLANS, st.integers(2, 32))
def test_no_sum_of_any_round_can_leave_its_ring(plan, members):
    shapes = shared_shapes(TASKS, plan)
    for t in (1, plan.rounds):
        check_layout(agg.update_layout(shapes, plan, TASKS, t, members), members)
    check_layout(agg.counts_layout(Schema(("a",), ("b",)), members), members)
    check_layout(agg.gain_layout(TASKS), members)
    check_layout(agg.score_layout(7, 3), members)


@given(PLANS)
def test_the_clips_of_all_rounds_are_twice_the_sum_of_the_rates(plan):
    rates = sum(agg.learning_rate(plan, s) for s in range(plan.rounds * plan.steps))
    clips = sum(agg.round_clip(plan, t) for t in range(1, plan.rounds + 1))
    assert clips == pytest.approx(2 * rates, rel=1e-6, abs=plan.rounds * 2e-6)


def test_the_score_layout_is_eight_nats_in_sixteenths():
    (segment,) = agg.score_layout(5, 3).segments
    assert (segment.shape, segment.ring, segment.clip, segment.scale) == ((5, 3), 16, 8.0, 1 / 16)


@pytest.mark.parametrize(
    ("gain", "mean", "weight"), [(1, 1, 1), (0.25, 1, 0.5), (9, 1, 1.5), (0, 1, 0), (-1, 1, 0), (0, 0, 0), (1, 0, 1.5)]
)
def test_gain_weight(gain, mean, weight):
    assert agg.gain_weight(gain, mean) == weight


def test_only_partner_roles_of_three_members_share_an_encoder():
    assert agg.shared_roles(roster("bank", "shop", "shop", "tax", "tax", "tax"), Policy()) == ("tax",)
    assert agg.shared_roles(roster("bank", "bank", "bank", "bank", "tax"), Policy()) == ()


def test_a_stricter_policy_needs_larger_roles():
    three = roster("bank", "tax", "tax", "tax")
    assert agg.shared_roles(three, Policy(min_hidden=3)) == ()
    assert agg.shared_roles(three, Policy(colluders=1)) == ()


@pytest.mark.parametrize("nodes_and_rows", [(0, 0), (0, 5), (3, 0), (-1, 5), (float("nan"), 5)])
def test_a_sum_behind_which_nobody_stands_is_refused(nodes_and_rows):
    with pytest.raises(RemoteProtocolError, match="zero_weight"):
        agg.check_weight({agg.META: np.array([*nodes_and_rows, 0.0, 1.0])})


def test_a_sum_with_weight_or_without_facts_passes():
    agg.check_weight({agg.META: np.array([3.0, 12.0, 0.0])})
    agg.check_weight({"w": np.zeros(3)})
