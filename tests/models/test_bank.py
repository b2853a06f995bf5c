"""Bank alone: out-of-fold log-odds, choice and blend, and the same functions on a wide table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from fedprofile.models.bank import BankModels, bank_folds, fit_folds, fit_wide
from fedprofile.models.blending import log_loss
from fedprofile.types import Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))


def test_blend_and_choice_follow_validation(small) -> None:
    data, bank = small.data, small.bank
    found, blended = bank.candidates(data.table), bank.predict(data.table)
    for task in TASKS:
        y = data.labels[task.name][data.valid]
        losses = {c: log_loss(y, found[c][task.name][data.valid]) for c in found}
        assert bank.choice[task.name] == min(losses, key=losses.get)
        assert log_loss(y, blended[task.name][data.valid]) <= min(losses.values()) + 1e-6
        assert np.allclose(blended[task.name].sum(1), 1)


def test_log_odds_are_out_of_fold(small) -> None:
    data, bank = small.data, small.bank
    b, mean = bank.log_odds(data.table, data.train), bank.log_odds(data.table)
    assert b.shape == (600, 3)
    assert np.array_equal(b[~data.train], mean[~data.train])
    own, trees, row = bank_folds(data.table), bank.folds["need"], int(np.flatnonzero(data.train)[0])
    p = trees.predict_each(trees.columns.matrix(data.table))[own[row], row, 1]
    prior = bank.priors["need"][1]
    assert np.isclose(b[row, 2], np.log(p / (1 - p)) - np.log(prior / (1 - prior)))
    assert np.bincount(own, minlength=5).min() > 80


def test_a_fold_never_trains_its_own_booster(small) -> None:
    data, y = small.data, small.data.labels["need"]
    flipped = np.where((bank_folds(data.table) == 2) & (y >= 0), 1 - y, y)
    refitted = fit_folds(replace(data, labels={"need": flipped}), TASKS[1:], 0)["need"].boosters
    first = [[_first_tree(t) for t in boosters] for boosters in (small.bank.folds["need"].boosters, refitted)]
    assert [a == b for a, b in zip(*first, strict=True)] == [False, False, True, False, False]


def _first_tree(text: str) -> str:
    return text.split("Tree=0")[1].split("\n\n", maxsplit=1)[0]


def test_state_round_trip_predicts_identically(small) -> None:
    weights, body = small.bank.to_state()
    again = BankModels.from_state(weights, json.loads(json.dumps(body)))
    assert np.array_equal(again.log_odds(small.data.table), small.bank.log_odds(small.data.table))
    for task, p in small.bank.predict(small.data.table).items():
        assert np.array_equal(p, again.predict(small.data.table)[task])
    assert again.schema == small.data.table.schema


def test_no_customer_is_in_the_state(small) -> None:
    text = json.dumps(small.bank.to_state()[1])
    assert not any(f'"{i}"' in text for i in small.data.table.ids)


def test_fit_wide_serves_the_pooled_baselines(small) -> None:
    data = small.data
    found = fit_wide(data.table, {"need": data.labels["need"]}, TASKS[1:], data.train, data.valid, 0)
    assert set(found) == {"network", "gbdt"}
    alone = small.bank.candidates(data.table)["gbdt"]["need"]
    assert np.array_equal(found["gbdt"]["need"], alone)
    assert found["network"]["need"].shape == (600, 2)
