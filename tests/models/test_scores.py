import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.models.scores import centred_log_odds, class_probabilities, noisy_gain, weigh
from fedprofile.types import Task

TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))

PRIOR = np.array([0.5, 0.3, 0.2])


def test_no_information_is_zero_and_odds_by_hand() -> None:
    p = np.array([PRIOR, [0.2, 0.3, 0.5]])
    s = centred_log_odds(p, PRIOR)
    np.testing.assert_allclose(s[0], 0, atol=1e-12)
    np.testing.assert_allclose(s[1], [np.log(4) - 0, np.log(1) - np.log(0.25)])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_inverse(w: list[float]) -> None:
    p = np.array([w]) / sum(w)
    np.testing.assert_allclose(class_probabilities(centred_log_odds(p, PRIOR), PRIOR), p, atol=1e-6)


def test_certainty_is_clipped() -> None:
    s = centred_log_odds(np.array([[1.0, 0, 0], [0, 0, 1.0]]), PRIOR)
    assert np.isfinite(s).all()
    assert np.abs(s).max() < 11


def test_gain_of_knowing_nothing_and_everything() -> None:
    g = np.random.default_rng(0)
    flip = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    y = g.choice(3, 20_000, p=PRIOR)
    noisy = np.array([g.choice(3, p=flip[c]) for c in range(3) for _ in range((y == c).sum())])
    y = np.sort(y)
    nothing = np.zeros((len(y), 2))
    assert noisy_gain(nothing, noisy, PRIOR, flip) == 1e-4
    all_known = centred_log_odds(np.eye(3)[y], PRIOR)
    q = PRIOR @ flip
    mutual = -(q * np.log(q)).sum() + (flip[0] * np.log(flip[0])).sum()
    assert noisy_gain(all_known, noisy, PRIOR, flip) == pytest.approx(mutual, abs=0.02)
    hidden = np.where(np.arange(len(y)) % 2, noisy, -1)
    half = noisy_gain(all_known[1::2], noisy[1::2], PRIOR, flip)
    assert noisy_gain(all_known, hidden, PRIOR, flip) == pytest.approx(half)
    assert noisy_gain(nothing, np.full(len(y), -1), PRIOR, None) == 1e-4


def test_each_task_is_weighed_by_its_own_gain():
    log_odds = np.array([[1, -2, 4], [9, 0, -20]], np.float32)
    weighed = weigh(log_odds, {"tier": 0.25, "invest": 0.0}, {"tier": 1.0, "invest": 1.0}, TASKS)
    assert weighed.tolist() == [[0.5, -1, 0], [4.5, 0, 0]]
    assert log_odds[1].tolist() == [9, 0, -20]
    assert weigh(log_odds, {"tier": 9, "invest": 1}, {"tier": 1, "invest": 1}, TASKS).tolist() == [
        [1.5, -3, 4],
        [8, 0, -8],
    ]
