"""The red flags on known answers: a rare value that moves everybody, a loud unit, sums that truth contradicts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedprofile.registry.redflags import PROBED, flag_measures, input_flag, partner_flag, trunk_flag
from fedprofile.types import Table, Task

N = 600


def _table(age: Any, kind: Any) -> Table:
    ids = np.array([f"c{i}" for i in range(len(age))])
    return Table(ids, {"age": np.asarray(age, float), "kind": np.asarray(kind, object)}, frozenset({"kind"}))


def _scorer(odds: Any) -> Any:
    """A model of one need whose log-odds are ``odds(age, kind)``."""

    def score(table: Table) -> dict[str, Any]:
        z = np.array([odds(a, k) for a, k in zip(table.columns["age"], table.columns["kind"], strict=True)])
        p = 1 / (1 + np.exp(-z))
        return {"need": np.stack([1 - p, p], 1)}

    return SimpleNamespace(score=score, tasks=(Task("need", "binary", 2),))


@pytest.fixture
def customers() -> Table:
    rng = np.random.default_rng(0)
    return _table(rng.uniform(20, 80, N), np.where(np.arange(N) % 3 == 0, "b", "a"))


def test_a_value_that_moves_everybody_is_named_with_its_size(customers: Table) -> None:
    kinds = customers.columns["kind"].copy()
    kinds[:12] = "rare"
    planted = _table(customers.columns["age"], kinds)
    probed = planted.take(np.arange(100, 100 + PROBED))
    value, where = input_flag(_scorer(lambda a, k: 4.0 * (k == "rare")), probed, planted)
    assert value == pytest.approx(4.0)
    assert where == "largest at column 'kind' for 'need'"
    beyond, where = input_flag(_scorer(lambda a, k: 4.0 * (a > 100)), probed, planted)
    assert beyond == pytest.approx(4.0)
    assert "'age'" in where


def test_honest_columns_move_people_by_degrees_or_by_common_values(customers: Table) -> None:
    probed = customers.take(np.arange(PROBED))
    # education of a third of all customers may matter to everybody, and age adds up to 1.2 over sixty years
    value, _ = input_flag(_scorer(lambda a, k: 4.0 * (k == "b") + 0.02 * np.clip(a, 20, 80)), probed, customers)
    assert value < 1.3


def test_a_loud_unit_stands_out_in_its_layer() -> None:
    rng = np.random.default_rng(0)
    quiet = {"trunk.hidden.weight": rng.normal(size=(1, 40, 20))}
    loud = {"trunk.hidden.weight": quiet["trunk.hidden.weight"] * np.where(np.arange(40) == 7, 10, 1)[None, :, None]}
    assert trunk_flag(quiet) < 5
    assert trunk_flag(loud) > 20


def _honest(seed: int, n: int = N) -> tuple[Any, Any, Any]:
    """Log-odds of the bank and of the partners, and classes 0..2 that follow from both."""
    rng = np.random.default_rng(seed)
    own, sums = rng.normal(size=(2, n))
    above = 1 / (1 + np.exp(-(own + sums)[:, None] + np.array([-0.5, 1.0])))
    return np.stack([own, own], 1), np.stack([sums, sums], 1), (rng.random(n)[:, None] < above).sum(1)


@pytest.mark.parametrize("share", [0.02, 0.08, 0.12])
def test_sums_that_truth_contradicts_raise_the_flag_whatever_their_share(share: float) -> None:
    own, sums, y = _honest(1)
    assert partner_flag(own, sums, y) < 4
    pushed = sums + 6 * (np.random.default_rng(2).permutation(N) < share * N)[:, None]
    assert partner_flag(own, pushed, y) > 6
    assert partner_flag(own, -pushed, 2 - y) > 6, "a push to the bottom counts as much"


def test_too_few_or_equal_labels_say_nothing() -> None:
    own, sums, y = _honest(3, PROBED - 1)
    assert partner_flag(own, sums, y) == 0
    own, sums, y = _honest(3)
    assert partner_flag(own, sums, np.zeros_like(y)) == 0


def test_a_home_without_test_customers_is_unknown_not_clean(customers: Table) -> None:
    nobody = np.zeros(N, bool)
    held: Any = SimpleNamespace(data=SimpleNamespace(test=nobody, table=customers))
    bundle: Any = SimpleNamespace(shared={})
    measures = list(flag_measures(bundle, held, 0))
    assert [m.gate for m in measures] == ["flag_inputs", "flag_partners", "flag_trunk"]
    assert all(m.value is None and m.note for m in measures)
