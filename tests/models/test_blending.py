"""The log-pool: never worse than a part where it was fitted, and finds what it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from fedprofile.models.blending import Blend, _objective, class_prior, fit_blend, log_loss


def _parts(seed: int, n: int, k: int, m: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    logits = [rng.normal(size=(n, k)) * rng.uniform(0.2, 2) + rng.uniform(0, 3) * np.eye(k)[y] for _ in range(m)]
    return y, [np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in logits]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 4), m=st.integers(1, 3))
def test_never_worse_than_the_best_part_on_its_rows(seed: int, k: int, m: int) -> None:
    y, parts = _parts(seed, 120, k, m)
    y[:20] = -1
    blend = fit_blend(parts, y, np.arange(100))
    rows = np.arange(20, 100)
    best = min(log_loss(y[rows], p[rows]) for p in parts)
    assert log_loss(y[rows], blend.apply([p[rows] for p in parts])) <= best + 1e-6
    assert sum(blend.weights) == pytest.approx(1)
    assert np.allclose(blend.apply(parts).sum(1), 1)


def test_gradient_is_the_gradient() -> None:
    y, parts = _parts(0, 60, 3, 3)
    logs = np.log(np.stack(parts))
    at = np.array([0.3, -0.2, 0.1, 0.4])
    assert check_grad(lambda v: _objective(v, logs, y)[0], lambda v: _objective(v, logs, y)[1], at) < 1e-6


def test_temperature_sharpens_an_underconfident_part() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet([0.6, 0.6, 0.6], 4000)
    y = np.array([rng.choice(3, p=row) for row in p])
    soft = p**0.5 / (p**0.5).sum(1, keepdims=True)
    assert fit_blend([soft], y, np.arange(4000)).temperature == pytest.approx(2, abs=0.15)


def test_no_labels_means_equal_weights_and_json_round_trips() -> None:
    _, parts = _parts(0, 10, 2, 2)
    blend = fit_blend(parts, np.full(10, -1), np.arange(10))
    assert blend == Blend((0.5, 0.5), 1.0) == Blend.from_json(blend.to_json())


def test_the_prior_skips_missing_labels_and_is_never_zero() -> None:
    y = np.array([0, 0, 2, -1])
    assert np.allclose(class_prior(y, np.arange(4), 3), np.array([3, 1, 2]) / 6)
    assert np.allclose(class_prior(y, np.array([True, False, False, True]), 2), np.array([2, 1]) / 3)
