from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.secagg.encoding import check_layout
from fedprofile.types import (
    Labels,
    Layout,
    LearningPlan,
    Party,
    Policy,
    Roster,
    RunPlan,
    Schema,
    Segment,
    Table,
    Task,
    canonical,
    digest,
    output_slices,
)

TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
PLAN = RunPlan(
    run_id=bytes(32), purpose="p", tasks=TASKS, roster_hash=bytes(32), policy_hash=bytes(32), seed=0,
    learning=LearningPlan(), label_eps=2.0, min_views=2, schemas={"tax": Schema(("a",), ("b",))}, align="psi",
    min_release=256,
)  # fmt: skip
OTHER = {
    "purpose": "q", "tasks": TASKS[:1], "roster_hash": b"\1" * 32, "policy_hash": b"\1" * 32, "seed": 1,
    "learning": LearningPlan(steps=21), "label_eps": None, "min_views": 3, "schemas": {"tax": Schema(("b",), ("a",))},
    "align": "plain", "min_release": 255, "recompute": True, "start": b"\1" * 32,
}  # fmt: skip


@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.dictionaries(st.text(), v, max_size=4)))
def test_canonical_does_not_depend_on_the_order_of_keys(value):
    turned = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert canonical(turned) == canonical(value)


def test_canonical_refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_digests_of_different_parts_differ(a, b):
    assert (digest("x", *a) == digest("x", *b)) == (a == b)
    assert digest("x", *a) != digest("y", *a)


def test_a_plan_survives_json():
    assert RunPlan.from_json(PLAN.to_json()) == PLAN
    assert RunPlan.from_json(PLAN.to_json()).to_json() == PLAN.to_json()


def test_the_basis_leaves_out_the_run_id_alone():
    again = replace(PLAN, run_id=b"\1" * 32)
    assert again.basis == PLAN.basis
    assert again.hash != PLAN.hash


def test_every_field_of_a_plan_is_approved():
    assert set(OTHER) == {f.name for f in fields(RunPlan)} - {"run_id"}
    assert len({PLAN.basis, *(replace(PLAN, **{k: v}).basis for k, v in OTHER.items())}) == len(OTHER) + 1


@given(st.data())
def test_every_field_of_learning_is_approved(data):
    name = data.draw(st.sampled_from([f.name for f in fields(LearningPlan)]))
    value = getattr(PLAN.learning, name)
    changed = replace(PLAN.learning, **{name: value + "x" if isinstance(value, str) else value + 1})
    assert replace(PLAN, learning=changed).basis != PLAN.basis


def test_a_roster_survives_json_and_its_hash_leaves_signatures_out():
    parties = (Party("bank", "b", "bank", bytes(32)), Party("tax", "t", "tax", b"\1" * 32))
    roster = Roster(2, b"\2" * 32, parties, "bank", (("bank", b"s"),))
    assert Roster.from_json(roster.to_json()) == roster
    assert replace(roster, signatures=()).hash == roster.hash
    assert replace(roster, parties=parties[::-1]).hash != roster.hash
    assert roster.party("tax") is parties[1]
    assert roster.members("tax") == parties[1:]
    assert len(parties[0].wire_id) == 16


def test_a_policy_survives_json():
    policy = Policy(tasks=("tier",), rings=(16,), clip=0.5)
    assert Policy.from_json(policy.to_json()) == policy
    assert Policy.from_json(policy.to_json()).hash == policy.hash != Policy().hash


@pytest.mark.parametrize("ring", [16, 32, 64])
@given(st.floats(1e-6, 1e6), st.integers(1, 1000))
def test_a_fitted_segment_holds_the_sum_of_its_members(ring, clip, members):
    check_layout(Layout((Segment.fitted("w", (2,), ring, clip, members),)), members)


def test_the_layout_hash_sees_every_field_and_the_order():
    s = Segment("a", (2, 3), 16, 1.0, 0.5)
    changed = (
        replace(s, name="b"),
        replace(s, shape=(3, 2)),
        replace(s, ring=32),
        replace(s, clip=2.0),
        replace(s, scale=0.25),
    )
    assert len({Layout((x,)).hash for x in (s, *changed)}) == 6
    assert Layout((s, changed[0])).hash != Layout((changed[0], s)).hash
    assert Layout((s, changed[2])).nbytes == 12 + 24


@given(st.lists(st.integers(2, 6), min_size=1, max_size=5))
def test_output_slices_cover_a_score_without_gap(classes):
    tasks = tuple(Task(f"t{i}", "ordinal", k) for i, k in enumerate(classes))
    at = [i for s in output_slices(tasks).values() for i in range(s.start, s.stop)]
    assert at == list(range(sum(t.outputs for t in tasks)))


def test_no_repr_shows_a_value():
    ids = np.array(["SECRET"])
    table = Table(ids, {"x": np.array([4711.5]), "c": np.array(["SECRET"], dtype=object)}, frozenset({"c"}))
    assert table.schema == Schema(("x",), ("c",))
    for shown in (repr(table), repr(Labels(ids, {"tier": np.array([4711])})), repr(table.take(np.array([0])))):
        assert "SECRET" not in shown
        assert "4711" not in shown
