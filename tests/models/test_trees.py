"""Boosted trees as text: identical after a JSON round trip, and no value of a single customer inside."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedprofile.errors import DataError
from fedprofile.models.trees import TreeConfig, Trees
from fedprofile.types import Table

QUICK = TreeConfig(rounds=20, min_child=10)


def _table(n: int = 400, seed: int = 0) -> tuple[Table, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    colour = rng.choice(["red", "blue", "green"], n).astype(object)
    y = ((x + (colour == "red") + rng.normal(size=n) * 0.3) > 0.4).astype(np.int64)
    colour[:15], colour[15], x[20:40] = None, "einhorn", np.nan
    x[50] = 98765.4321
    ids = np.array([f"i{i}" for i in range(n)])
    return Table(ids, {"x": x, "colour": colour}, frozenset({"colour"})), y


def _masks(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    train = np.arange(n) < 300
    return train, ~train


@pytest.mark.parametrize("classes", [2, 3])
def test_json_round_trip_predicts_identically(classes: int) -> None:
    table, y = _table()
    y = y + (classes - 2) * (np.arange(400) % 2)
    extra = np.random.default_rng(1).normal(size=(400, 2))
    trees = Trees.fit(table, y, classes, *_masks(), QUICK, 0, extra)
    again = Trees.from_json(json.loads(json.dumps(trees.to_json())))
    p = trees.predict(table, extra)
    assert p.shape == (400, classes)
    assert np.array_equal(p, again.predict(table, extra))
    assert np.array_equal(p, Trees.fit(table, y, classes, *_masks(), QUICK, 0, extra).predict(table, extra))
    assert np.allclose(p.sum(1), 1)


def test_learns_numbers_categories_and_skips_missing_labels() -> None:
    table, y = _table()
    train, valid = _masks()
    hidden = y.copy()
    hidden[:30] = -1
    p = Trees.fit(table, hidden, 2, train, valid, TreeConfig(min_child=10), 0).predict(table)
    assert (p.argmax(1) == y)[valid].mean() > 0.85


def test_rare_levels_and_extreme_values_leave_no_trace() -> None:
    table, y = _table()
    trees = Trees.fit(table, y, 2, *_masks(), QUICK, 0)
    text = json.dumps(trees.to_json())
    assert "red" in text
    assert "einhorn" not in text
    assert "98765" not in text


def test_unseen_level_is_missing_and_an_absent_column_an_error() -> None:
    table, y = _table()
    trees = Trees.fit(table, y, 2, *_masks(), QUICK, 0)
    odd = Table(table.ids, {**table.columns, "colour": np.full(400, "new", object)}, table.categorical)
    rare = Table(table.ids, {**table.columns, "colour": np.full(400, "einhorn", object)}, table.categorical)
    assert np.array_equal(trees.predict(odd), trees.predict(rare))
    with pytest.raises(DataError, match="column 'colour'"):
        trees.predict(Table(table.ids, {"x": table.columns["x"]}))


def test_no_labels_is_an_error() -> None:
    table, _ = _table()
    with pytest.raises(DataError, match="no labelled customer"):
        Trees.fit(table, np.full(400, -1), 2, *_masks(), QUICK, 0)


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_correct_the_model_they_start_from(classes: int) -> None:
    table, y = _table()
    train, valid = _masks()
    start = np.random.default_rng(3).dirichlet(np.ones(classes), 400)
    still = TreeConfig(rounds=1, min_child=10, lr=1e-9)
    assert np.allclose(
        Trees.fit(table, y, classes, train, valid, still, 0, None, start).predict(table, start=start), start
    )
    known = np.eye(classes)[y] * 0.8 + 0.2 / classes  # almost the answer, which is in no column of this table
    blind = Table(table.ids, {"x": np.zeros(400)})
    p = Trees.fit(blind, y, classes, train, valid, QUICK, 0, None, known).predict(blind, start=known)
    assert (p.argmax(1) == y).all()
