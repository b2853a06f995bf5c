"""A partner's trees on randomised labels: un-mixed, centred, out of fold."""

from __future__ import annotations

import numpy as np

from fedprofile.models.partner_trees import partner_log_odds, unmix, unseen_log_odds
from fedprofile.types import Table, Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))


def _flip(k: int, eps: float) -> np.ndarray:
    keep = np.exp(eps) / (np.exp(eps) + k - 1)
    return np.full((k, k), (1 - keep) / (k - 1)) + np.eye(k) * (keep - (1 - keep) / (k - 1))


def _party(n: int = 900):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    truth = {"tier": np.digitize(x, [-0.5, 0.5]), "need": (x > 0).astype(int)}
    flips = {t.name: _flip(t.classes, 2.0) for t in TASKS}
    released = {
        t.name: np.array([rng.choice(t.classes, p=flips[t.name][v]) for v in truth[t.name]], np.int64) for t in TASKS
    }
    priors = {t.name: np.bincount(truth[t.name]) / n for t in TASKS}
    table = Table(np.arange(n).astype(str), {"x": x, "noise": rng.normal(size=n)})
    return table, truth, released, rng.integers(0, 3, n), flips, priors


def test_scores_follow_the_truth_and_say_how_sure_they_are() -> None:
    table, truth, released, fold, flips, priors = _party()
    train = np.arange(900) < 700
    s, trees = partner_log_odds(table, released, fold, train, TASKS, flips, priors, 0)
    assert np.array_equal(unseen_log_odds(trees, table, TASKS, flips, priors)[~train], s[~train])
    assert s.shape == (900, 3)
    assert s.dtype == np.float32
    assert ((s[:, 2] > 0) == truth["need"])[~train].mean() > 0.9
    # Un-mixed: without it no customer could be surer than the flip probability allows.
    sure = 1 / (1 + np.exp(-(np.abs(s[:, 2]).max())))
    assert sure > flips["need"][0, 0]


def test_a_released_label_does_not_move_its_own_customers_booster() -> None:
    table, _, released, fold, flips, priors = _party(300)
    train = np.arange(300) < 250
    row = int(np.flatnonzero(train & (fold == 1))[0])
    changed = {t: v.copy() for t, v in released.items()}
    changed["need"][row] = 1 - changed["need"][row]
    a, _ = partner_log_odds(table, released, fold, train, TASKS, flips, priors, 0)
    b, _ = partner_log_odds(table, changed, fold, train, TASKS, flips, priors, 0)
    # Only through the stopping round may it still be felt by its own fold, and then by the whole fold alike.
    assert np.corrcoef(a[train & (fold == 1), 2], b[train & (fold == 1), 2])[0, 1] > 0.98
    assert np.array_equal(a[:, :2], b[:, :2])


def test_no_information_is_zero() -> None:
    table, _, released, fold, flips, priors = _party(300)
    released["need"][:] = -1
    s, trees = partner_log_odds(table, released, fold, np.arange(250), TASKS, flips, priors, 0)
    assert set(trees) == {"tier"}
    assert np.array_equal(unseen_log_odds(trees, table, TASKS, flips, priors)[250:], s[250:])
    assert not s[:, 2].any()
    assert s[:, :2].any()


def test_unmix_inverts_the_mixing() -> None:
    p = np.random.default_rng(0).dirichlet([5, 5, 5], 50)
    flip = _flip(3, 1.0)
    assert np.allclose(unmix(p @ flip, flip), p)
    assert unmix(p, None) is p
