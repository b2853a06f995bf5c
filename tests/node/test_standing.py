"""A standing approval covers what asks for no more, and nothing that asks for more in any single field."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.node.standing import RULES, Terms, covers
from fedprofile.types import LearningPlan, RunPlan, Schema, Task

TIER, CAR, LOAN = Task("tier", "ordinal", 3), Task("car", "binary", 2), Task("loan", "binary", 2)
PLAN = RunPlan(
    run_id=bytes(32), purpose="tiering", tasks=(TIER, CAR), roster_hash=bytes(32), policy_hash=bytes(32), seed=0,
    learning=LearningPlan(rounds=20), label_eps=2.0, min_views=2, schemas={"tax": Schema(("a", "b"), ("c",))},
    align="psi", min_release=256, recompute=False,
)  # fmt: skip
TERMS = Terms(PLAN, "strict", ("a", "b", "c"))

# field -> values that ask for no more; fields that are not named have the approved value alone
NO_MORE = {
    "run_id": st.binary(min_size=32, max_size=32),
    "tasks": st.sampled_from([(TIER, CAR), (CAR, TIER), (TIER,), (CAR,)]),
    "label_eps": st.floats(0.01, 2.0),
    "min_views": st.integers(2, 9),
    "min_release": st.integers(256, 10_000),
    "recompute": st.booleans(),
    "rounds": st.integers(1, 20),
    "columns": st.lists(st.sampled_from("abc"), unique=True).map(tuple),
}
# field -> values that ask for more, or for something else
MORE = {
    "purpose": st.sampled_from(["", "marketing", "Tiering"]),
    "tasks": st.sampled_from([(), (TIER, LOAN), (TIER, TIER), (replace(TIER, classes=4),), (replace(CAR, name="x"),)]),
    "roster_hash": st.just(b"\1" * 32),
    "policy_hash": st.just(b"\1" * 32),
    "seed": st.integers(1, 99),
    "label_eps": st.none() | st.floats(2.0, exclude_min=True) | st.just(float("nan")) | st.just("1.0"),
    "min_views": st.integers(-3, 1) | st.none(),
    "schemas": st.sampled_from([{}, {"tax": Schema(("b", "a"), ("c",))}, {**PLAN.schemas, "shop": Schema(("d",), ())}]),
    "align": st.sampled_from(["plain", "union", "simulated"]),
    "min_release": st.integers(0, 255) | st.just("999"),
    "profile": st.sampled_from(["none", "resilient"]),
    "columns": st.just(("a", "b", "c", "d")),
    "start": st.just(b"\1" * 32),
}
LEARNING_MORE = {
    f.name: st.just(getattr(PLAN.learning, f.name)).map(lambda v: v + "x" if isinstance(v, str) else v + 1)
    for f in fields(LearningPlan)
}
LEARNING_MORE["steps"] = st.sampled_from([1, 19, 21])  # fewer are no less


def changed(**values) -> Terms:
    own = {k: values.pop(k) for k in ("profile", "columns") if k in values}
    learning = {k: values.pop(k) for k in list(values) if k in ("rounds",)}
    return replace(TERMS, plan=replace(PLAN, learning=replace(PLAN.learning, **learning), **values), **own)


@given(st.fixed_dictionaries({}, optional=NO_MORE))
def test_less_in_any_fields_is_covered(values):
    assert covers(TERMS, changed(**values)) == []


@given(st.fixed_dictionaries({}, optional=NO_MORE), st.data())
def test_more_in_any_single_field_is_not(values, data):
    name = data.draw(st.sampled_from(sorted(MORE)))
    value = data.draw(MORE[name])
    (reason,) = covers(TERMS, changed(**{**values, name: value}))
    assert reason.startswith(name)


@given(st.data())
def test_other_arithmetic_is_not(data):
    name = data.draw(st.sampled_from(sorted(LEARNING_MORE)))
    learning = replace(PLAN.learning, **{name: data.draw(LEARNING_MORE[name])})
    (reason,) = covers(TERMS, replace(TERMS, plan=replace(PLAN, learning=learning)))
    assert reason.startswith(name)


def test_what_was_to_be_recomputed_stays_so_and_true_labels_cover_randomised_ones():
    strict = replace(TERMS, plan=replace(PLAN, recompute=True))
    assert covers(strict, TERMS) == ["recompute: False asked, True approved"]
    bare = replace(TERMS, plan=replace(PLAN, label_eps=None))
    assert covers(bare, TERMS) == []
    assert covers(TERMS, bare) == ["label_eps: None asked, 2.0 approved"]


def test_a_reason_quotes_numbers_and_no_text_of_the_other_side():
    hostile = changed(purpose="\x1b[2J" * 1000, rounds=40)
    assert covers(TERMS, hostile) == ["purpose differs", "rounds: 40 asked, 20 approved"]


def test_every_field_has_a_rule_and_every_rule_a_field():
    for rules, kind in ((RULES, Terms), (RULES["plan"], RunPlan), (RULES["plan"]["learning"], LearningPlan)):
        assert set(rules) == {f.name for f in fields(kind)}
    asked = set(MORE) | {"run_id", "recompute", "learning"}
    assert asked == ({f.name for f in fields(RunPlan)} | {"profile", "columns"}), "a test for each of them"


@pytest.mark.parametrize("place", ["plan", "learning"])
def test_a_field_that_somebody_adds_covers_nothing_until_it_has_a_rule(place):
    """Equal as it may be at both: nobody has said yet what it would mean to ask for more."""

    @dataclass(frozen=True)
    class LaterPlan(RunPlan):
        share_embeddings: bool = False

    @dataclass(frozen=True)
    class LaterLearning(LearningPlan):
        share_embeddings: bool = False

    held = vars(PLAN) if place == "plan" else {**vars(PLAN), "learning": LaterLearning(**vars(PLAN.learning))}
    later = replace(TERMS, plan=(LaterPlan if place == "plan" else RunPlan)(**held))
    assert covers(later, later) == ["share_embeddings: False asked, False approved"]
