"""The bank's network: learns, restores exactly, and does not depend on any global generator."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fedprofile.errors import TrainingDiverged
from fedprofile.models.tabular_net import FittedNetwork, fit_network
from fedprofile.types import Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))


def _data(n: int = 500):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    labels = {"tier": np.digitize(x[:, 0], [-0.5, 0.5]).astype(np.int64), "need": (x[:, 1] > 0).astype(np.int64)}
    labels["need"][:25] = -1
    train = np.arange(n) < 350
    return x, labels, train, ~train


def test_learns_all_tasks_and_restores_from_state_and_json() -> None:
    x, labels, train, valid = _data()
    net = fit_network(x, labels, TASKS, train, valid, 0, steps=120)
    p = net.predict(x)
    assert p["tier"].shape == (500, 3)
    assert p["need"].dtype == np.float64
    for task in TASKS:
        assert (p[task.name].argmax(1) == labels[task.name])[valid].mean() > 0.85
    again = FittedNetwork.from_state(net.state(), json.loads(json.dumps(net.to_json()))).predict(x)
    for task in TASKS:
        assert np.array_equal(p[task.name], again[task.name])


def test_view_dropout_hides_the_trailing_columns_only() -> None:
    x, labels, train, valid = _data()
    before = x.copy()
    # Always hidden in training, so what stands there at prediction is new to the network and the first column is not.
    x = np.concatenate([x[:, 1:], x[:, :1]], 1)
    hidden = fit_network(x, labels, TASKS, train, valid, 0, view_columns=1, view_dropout=1.0, steps=100).predict(x)
    assert (hidden["tier"].argmax(1) == labels["tier"])[valid].mean() < 0.6
    assert (hidden["need"].argmax(1) == labels["need"])[valid].mean() > 0.85
    assert np.array_equal(before[:, :1], x[:, -1:])


def test_the_seed_alone_decides() -> None:
    x, labels, train, valid = _data()
    states = []
    for noise, seed in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(noise)
        states.append(fit_network(x, labels, TASKS, train, valid, seed, steps=3).state()["3/trunk.heads.weight"])
    assert np.array_equal(states[0], states[1])
    assert not np.array_equal(states[1], states[2])


def test_only_steps_that_a_task_chose_are_kept() -> None:
    net = fit_network(*_data()[:2], TASKS, *_data()[2:], 0, steps=150)
    assert set(net.kept) == set(net.chosen.values())


def test_divergence_is_named() -> None:
    x, labels, train, valid = _data()
    x[:, 0] = np.inf
    with pytest.raises(TrainingDiverged, match="tabular network"):
        fit_network(x, labels, TASKS, train, valid, 0, steps=5)
