import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.errors import LocalProtocolError
from fedprofile.privacy.randomised_response import (
    class_prior,
    diluted,
    flip_matrix,
    keep_probability,
    randomise,
    unmix,
)

IDS = np.array([f"C{i}" for i in range(300)])
LABELS = np.random.default_rng(0).integers(-1, 3, 300)
EPS = st.floats(0.05, 8)


def coin(ids, labels, eps=1.0, task="tier", secret=b"s" * 32, classes=3):
    return randomise(ids, labels, task, classes, eps, secret)


@given(st.permutations(range(300)), st.integers(1, 300))
def test_a_customer_gets_one_answer_for_ever_in_any_order_and_subset(order, size):
    rows = np.array(order[:size])
    assert (coin(IDS[rows], LABELS[rows]) == coin(IDS, LABELS)[rows]).all()


@given(EPS, EPS)
def test_a_larger_eps_only_turns_coins_to_keep(a, b):
    low, high = coin(IDS, LABELS, min(a, b)), coin(IDS, LABELS, max(a, b))
    assert (high[low == LABELS] == LABELS[low == LABELS]).all()
    assert ((high == low) | (high == LABELS)).all()


def test_tasks_and_secrets_have_their_own_coins():
    one = coin(IDS, LABELS)
    assert (one != coin(IDS, LABELS, task="invest")).any()
    assert (one != coin(IDS, LABELS, secret=b"t" * 32)).any()


@given(EPS)
def test_missing_labels_stay_missing_and_no_others_are_made(eps):
    assert ((coin(IDS, LABELS, eps) == -1) == (LABELS == -1)).all()


def test_no_eps_releases_the_labels_and_leaves_the_input_alone():
    before = LABELS.copy()
    assert (coin(IDS, LABELS, None) == LABELS).all()
    coin(IDS, LABELS, 0.1)
    assert (before == LABELS).all()


@pytest.mark.parametrize(("classes", "eps"), [(2, 0.5), (3, 1.0), (5, 2.0)])
def test_flips_come_as_often_as_the_matrix_says(classes, eps):
    n = 20_000
    ids, true = np.array([f"P{i}" for i in range(n)]), np.arange(n) % classes
    released = coin(ids, true, eps, classes=classes)
    flips = flip_matrix(classes, eps)
    for y in range(classes):
        seen = np.bincount(released[true == y], minlength=classes) / (true == y).sum()
        noise = np.sqrt(flips[y] * (1 - flips[y]) / (true == y).sum())
        assert (np.abs(seen - flips[y]) < 5 * noise).all()


@given(st.integers(2, 8), EPS)
def test_the_matrix_is_eps_private(classes, eps):
    flips = flip_matrix(classes, eps)
    assert np.allclose(flips.sum(1), 1)
    assert (flips.max(0) / flips.min(0)).max() <= math.exp(eps) * (1 + 1e-9)
    assert flips[0, 0] == keep_probability(classes, eps)


@pytest.mark.parametrize("eps", [0.0, -1.0, math.nan])
def test_an_eps_that_is_not_positive_is_refused(eps):
    with pytest.raises(LocalProtocolError):
        keep_probability(3, eps)


@given(st.lists(st.floats(0.05, 1), min_size=3, max_size=3), EPS)
def test_unmixing_undoes_the_flips(weights, eps):
    true = np.array(weights) / sum(weights)
    flips = flip_matrix(3, eps)
    assert np.allclose(unmix(true @ flips, flips), true, atol=1e-9)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: sum(w) > 0), EPS)
def test_an_unmixed_prior_is_always_a_distribution(weights, eps):
    found = unmix(np.array(weights) / sum(weights), flip_matrix(3, eps))
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()


def test_the_prior_of_released_labels_is_that_of_the_true_ones():
    n = 20_000
    ids, true = np.array([f"Q{i}" for i in range(n)]), np.random.default_rng(1).choice(3, n, p=[0.6, 0.3, 0.1])
    true[:500] = -1
    prior = class_prior(coin(ids, true, 1.0), 3, flip_matrix(3, 1.0))
    assert np.allclose(prior, [0.6, 0.3, 0.1], atol=0.03)


PRIORS = st.lists(st.floats(0.01, 1), min_size=2, max_size=5).map(lambda p: np.array(p) / sum(p))


@given(PRIORS, EPS, st.floats(1 / 32, 1))
def test_labels_of_nobody_leave_the_channel_invertible(prior, eps, share):
    flips = flip_matrix(len(prior), eps)
    mixed = diluted(flips, prior, share)
    assert np.allclose(mixed.sum(1), 1)
    assert np.linalg.det(mixed) == pytest.approx(share ** (len(prior) - 1) * np.linalg.det(flips), rel=1e-6)
    assert np.allclose(prior @ mixed, prior @ flips), "what is released is distributed alike, whoever is whose"
    assert np.allclose(diluted(flips, prior, 1.0), flips)


@given(PRIORS, EPS)
def test_a_label_changes_the_odds_of_being_a_customer_by_at_most_the_factor_e_to_eps(prior, eps):
    """Whatever the true class: labels of nobody are distributed as the released ones are."""
    flips = flip_matrix(len(prior), eps)
    odds = flips / (prior @ flips)
    assert max(odds.max(), 1 / odds.min()) <= math.exp(eps) * (1 + 1e-9)


def test_a_class_that_changes_has_a_coin_of_its_own():
    """With one coin for both, the answer would move by as much as the class did, for every customer."""
    ids = np.array([f"C{i}" for i in range(20_000)])
    before, after = coin(ids, np.zeros(20_000, np.int64)), coin(ids, np.ones(20_000, np.int64))
    moved = np.mean((after - before) % 3 == 1)
    flips = flip_matrix(3, 1.0)
    expected = sum(flips[0, z] * flips[1, (z + 1) % 3] for z in range(3))
    assert moved == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000))
