from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.errors import PolicyRefusal
from fedprofile.label_owner.release import fill, fingerprint, release_labels, restrict
from fedprofile.privacy.sealing import LabelRelease
from fedprofile.types import LearningPlan, RunPlan, Spine, Task

N = 40
TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
PLAN = RunPlan(
    run_id=bytes(32), purpose="p", tasks=TASKS, roster_hash=bytes(32), policy_hash=bytes(32), seed=0,
    learning=LearningPlan(), label_eps=1.0, min_views=2, schemas={}, min_release=5,
)  # fmt: skip
RNG = np.random.default_rng(3)
IDS = np.array([f"C{i}" for i in range(N)])
LABELS = {"tier": RNG.integers(-1, 3, N), "invest": RNG.integers(-1, 2, N)}
SLOTS = np.sort(RNG.permutation(100)[:N])
SPINE = Spine(100, np.arange(N), SLOTS, np.ones(N, bool), bytes(32))
MASKS = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)


def release(train, plan=PLAN, secret=b"s" * 32):
    return release_labels(IDS, LABELS, train, SPINE, plan, secret)


@given(MASKS.filter(lambda m: m.sum() >= 5))
def test_training_customers_alone_are_released_and_missing_labels_stay_missing(train):
    found = release(train)
    assert found.slots.tolist() == SLOTS[train].tolist()
    for task in TASKS:
        assert ((found.labels[task.name] == -1) == (LABELS[task.name][train] == -1)).all()
        assert sum(found.priors[task.name]) == pytest.approx(1)


@given(MASKS.filter(lambda m: m.sum() >= 5), st.integers(0, 9), st.binary(min_size=32, max_size=32))
def test_a_customers_release_depends_on_nobody_else_and_on_no_run(train, seed, run_id):
    everybody = dict(zip(SLOTS.tolist(), zip(*release(np.ones(N, bool)).labels.values(), strict=True), strict=True))
    some = release(train, replace(PLAN, seed=seed, run_id=run_id))
    assert list(zip(*some.labels.values(), strict=True)) == [everybody[s] for s in some.slots.tolist()]


def test_without_eps_the_labels_are_true():
    found = release(np.ones(N, bool), replace(PLAN, label_eps=None))
    assert all((found.labels[t] == v).all() for t, v in LABELS.items())
    assert found.eps is None


@given(MASKS)
def test_a_partner_gets_the_part_about_customers_it_knows(known):
    whole = release(np.ones(N, bool))
    by_slot = np.zeros(100, bool)
    by_slot[SLOTS[known]] = True
    if known.sum() < 5:
        with pytest.raises(PolicyRefusal) as error:
            restrict(whole, by_slot, PLAN)
        assert error.value.code == "release_too_small"
        return
    part = restrict(whole, by_slot, PLAN)
    assert part.slots.tolist() == SLOTS[known].tolist()
    assert all(part.labels[t].tolist() == v[known].tolist() for t, v in whole.labels.items())
    assert part.priors == whole.priors


@pytest.mark.parametrize("size", [0, 4])
def test_too_few_training_customers_are_not_released(size):
    with pytest.raises(PolicyRefusal) as error:
        release(np.arange(N) < size)
    assert error.value.code == "release_too_small"
    assert "min_release=5" in str(error.value)


NAMES = [bytes([i]) * 16 for i in range(100)]


def test_a_union_is_told_a_label_for_every_slot_and_its_own_stay():
    some = release(np.arange(N) < 25)
    full = fill(some, NAMES, b"n" * 32, 2)
    assert (full.slots.tolist(), full.fold) == (list(range(100)), 2)
    for task, values in some.labels.items():
        assert full.labels[task][some.slots].tolist() == values.tolist()
    for task, values in some.labels.items():
        assert set(full.labels[task].tolist()) == set(values.tolist()), "drawn among what was released"


def test_a_row_that_one_customer_alone_has_is_drawn_for_nobody_as_well():
    """Rows copied as a whole would be of a customer wherever they stand once."""
    draw = np.random.default_rng(0)
    slots = np.arange(300)
    tasks = {f"t{i}": draw.integers(4, size=300) for i in range(5)}
    names = [i.to_bytes(16, "big") for i in range(900)]
    some = LabelRelease(slots, tasks, {t: [0.25] * 4 for t in tasks}, 2.0)
    rows = np.stack(list(fill(some, names, b"n" * 32, 0).labels.values()), 1)
    _, inverse, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    alone = count[inverse.ravel()] == 1
    ours = alone[:300].sum() / alone.sum()
    assert alone.sum() > 100
    assert ours < 0.5, "a third of all slots are customers'"


def test_labels_of_nobody_are_drawn_once_for_ever_by_name():
    """The order of a run's slots moves none of them; another secret moves most."""
    some = release(np.arange(N) < 25)
    order = np.random.default_rng(1).permutation(100)
    moved = replace(some, slots=np.argsort(order)[some.slots])
    once, again = fill(some, NAMES, b"n" * 32, 0), fill(moved, [NAMES[i] for i in order], b"n" * 32, 0)
    assert all((once.labels[t][order] == again.labels[t]).all() for t in once.labels)
    other = fill(some, NAMES, b"o" * 32, 0)
    assert (once.labels["tier"] != other.labels["tier"]).mean() > 0.2


def test_whatever_changes_what_a_union_was_told_changes_its_fingerprint():
    train = np.arange(N) < 25
    made = [
        fingerprint(IDS[:25], release(train), b"r" * 32, 0),
        fingerprint(IDS[1:26], release(train), b"r" * 32, 0),
        fingerprint(IDS[:25], release(train, secret=b"t" * 32), b"r" * 32, 0),
        fingerprint(IDS[:25], release(train, replace(PLAN, label_eps=None)), b"r" * 32, 0),
        fingerprint(IDS[:25], release(train), b"q" * 32, 0),
        fingerprint(IDS[:25], release(train), b"r" * 32, 1),
    ]
    assert len(set(made)) == len(made)
    assert fingerprint(IDS[:25], release(train, replace(PLAN, run_id=b"2" * 32)), b"r" * 32, 0) == made[0]
