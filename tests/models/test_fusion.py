"""Fusion: uses the sums, routes exactly, gates, and restores exactly."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fedprofile.models.fusion import FusedModel, fit_fusion
from fedprofile.models.metrics import evaluate
from fedprofile.types import Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))


@pytest.fixture(scope="module")
def fused(small) -> FusedModel:
    return fit_fusion(small.data, small.bank, small.sums, small.known, TASKS, 0)


def _test_rows(small) -> np.ndarray:
    return ~(small.data.train | small.data.valid)


def test_fused_beats_bank_alone_where_a_partner_knows(small, fused) -> None:
    test = _test_rows(small) & (small.known != 0).any(1)
    p, alone = fused.predict(small.data.table, small.sums, small.known), small.bank.predict(small.data.table)
    for task in TASKS:
        y = small.data.labels[task.name][test]
        assert evaluate(y, p[task.name][test])["auc"] > evaluate(y, alone[task.name][test])["auc"] + 0.05
        assert fused.used[task.name]


def test_rows_that_nobody_knows_get_exactly_the_bank_alone_score(small, fused) -> None:
    p, alone = fused.predict(small.data.table, small.sums, small.known), small.bank.predict(small.data.table)
    without = fused.predict(small.data.table)
    nobody = (small.known == 0).all(1)
    assert nobody.any()
    for task in TASKS:
        assert np.array_equal(p[task.name][nobody], alone[task.name][nobody])
        assert not np.array_equal(p[task.name][~nobody], alone[task.name][~nobody])
        assert np.array_equal(without[task.name], alone[task.name])


def test_gate_ships_bank_alone_where_sums_mislead_on_validation(small) -> None:
    misleading = small.sums.copy()
    misleading[small.data.valid] *= -1
    model = fit_fusion(small.data, small.bank, misleading, small.known, TASKS, 0, parts=("linear",))
    assert not any(model.used.values())
    p, alone = model.predict(small.data.table, misleading, small.known), small.bank.predict(small.data.table)
    assert all(np.array_equal(p[t.name], alone[t.name]) for t in TASKS)


@pytest.mark.parametrize("parts", [("linear",), ("trees",), ("linear", "trees", "network")])
def test_state_round_trip_predicts_identically(small, fused, parts) -> None:
    whole = len(parts) == 3
    model = fused if whole else fit_fusion(small.data, small.bank, small.sums, small.known, TASKS, 0, parts=parts)
    weights, body = model.to_state()
    again = FusedModel.from_state(weights, json.loads(json.dumps(body)))
    p, q = (m.predict(small.data.table, small.sums, small.known) for m in (model, again))
    assert all(np.array_equal(p[t.name], q[t.name]) for t in TASKS)
    assert len(model.blends["tier"].weights) == len(parts)


def test_misuse_is_refused(small, fused) -> None:
    with pytest.raises(ValueError, match="come together"):
        fused.predict(small.data.table, small.sums)
    with pytest.raises(ValueError, match="must be"):
        fused.predict(small.data.table, small.sums[:, :2], small.known)
    with pytest.raises(ValueError, match="parts"):
        fit_fusion(small.data, small.bank, small.sums, small.known, TASKS, 0, parts=("magic",))


def test_rows_without_a_label_are_skipped(small) -> None:
    labels = {t: np.where(small.data.valid & (np.arange(600) % 2 == 0), -1, y) for t, y in small.data.labels.items()}
    data = replace(small.data, labels=labels)
    assert fit_fusion(data, small.bank, small.sums, small.known, TASKS, 0, parts=("linear",)).used["tier"]
