"""The reference in a bundle: nothing about a few, and shifts that say what moved and what chance explains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.data.contract_drift import moved
from fedprofile.registry.reference import SMALLEST, Reference, coarse, count, shifts
from fedprofile.types import Table, Task

NEED = (Task("need", "binary", 2),)


def _numbers(rng: np.random.Generator, n: int, missing: float) -> np.ndarray:
    values = rng.choice([rng.normal(size=n), rng.integers(0, 3, n), rng.pareto(1.0, n) * 1e5], axis=0)
    return np.where(rng.random(n) < missing, np.nan, values).astype(float)


def _texts(rng: np.random.Generator, n: int, missing: float) -> np.ndarray:
    names = np.array([f"level{i}" for i in range(40)], dtype=object)
    values = names[np.minimum(rng.geometric(0.2, n), 39)]
    values[rng.random(n) < missing] = None
    return values


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 800), st.sampled_from([0.0, 0.01, 0.3, 1.0]), st.booleans())
def test_no_cell_tells_of_a_few_and_no_difference_does(seed: int, n: int, missing: float, text: bool) -> None:
    rng = np.random.default_rng(seed)
    values = (_texts if text else _numbers)(rng, n, missing)
    bins = coarse(values)
    assert all(c == 0 or c >= SMALLEST for c in bins.counts)
    assert bins.n in (0, n)
    for name in bins.levels:
        assert (values == name).sum() >= SMALLEST
    order = rng.permutation(n)
    assert coarse(values[order]) == bins
    assert count(values[order], bins) == count(values, bins)


def test_edges_are_not_the_values_of_rows() -> None:
    values = np.random.default_rng(1).normal(50_000, 20_000, 2000)
    edges = set(coarse(values).edges)
    assert len(edges) == 9
    assert not edges & set(values)


@pytest.mark.parametrize("n", [200, 2000])
def test_equal_distributions_stay_under_chance_and_shifted_ones_do_not(n: int) -> None:
    rng = np.random.default_rng(n)
    bins = coarse(rng.normal(size=20_000))
    over = [d.psi > d.noise for d in (moved(bins, count(rng.normal(size=n), bins)) for _ in range(100))]
    assert sum(over) <= 2  # 0.1 are expected
    far = moved(bins, count(rng.normal(1.0, size=n), bins))
    assert far.psi > max(0.25, far.noise)


def test_each_kind_of_shift_names_its_column() -> None:
    rng = np.random.default_rng(0)

    def table(n: int) -> Table:
        columns = {"age": rng.normal(40, 10, n), "city": rng.choice(np.array(["a", "b"], dtype=object), n)}
        return Table(np.array([str(i) for i in range(n)]), columns, frozenset({"city"}))

    scores = rng.random(1000)
    old = table(1000)
    reference = Reference({c: coarse(v) for c, v in old.columns.items()}, {"bank alone": {"need": coarse(scores)}})
    assert Reference.from_json(reference.to_json()) == reference

    def over(live: Table, p: np.ndarray) -> set[str]:
        found = shifts(reference, live, {"need": np.stack([1 - p, p], 1)}, "bank alone", NEED)
        return {f"{s.kind}/{s.subject}" for s in found if s.value > max(0.1, s.noise)}

    assert over(table(500), rng.random(500)) == set()
    live = table(500)
    live.columns["age"][:150] = np.nan
    assert over(live, rng.random(500)) == {"missing/age", "input_psi/age"}
    live = table(500)
    live.columns["city"][:150] = "c"
    assert over(live, rng.random(500) ** 3) == {"unseen/city", "input_psi/city", "score_psi/need"}
