import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.preprocessing import QuantileTransformer

from fedprofile.errors import DataError
from fedprofile.models.columns import Numeric
from fedprofile.models.features import FeatureMap, compact_distribution, fit_features
from fedprofile.types import Table


def table(categorical: tuple[str, ...] = (), **columns: list | np.ndarray) -> Table:
    values = {n: np.array(v, object) if n in categorical else np.asarray(v, np.float64) for n, v in columns.items()}
    n = len(next(iter(values.values())))
    return Table(np.array([f"c{i}" for i in range(n)]), values, frozenset(categorical))


def fit(t: Table, **kw: int) -> FeatureMap:
    return fit_features(t, np.arange(len(t)), **kw)


def exact(x: np.ndarray) -> np.ndarray:
    """Recipe 1.2 to the letter: mid-rank, clip, normal quantile, standardise."""
    s = np.sort(x)
    u = (np.searchsorted(s, x, "left") + np.searchsorted(s, x, "right")) / 2 / len(s)
    q = norm.ppf(np.clip(u, 1e-3, 1 - 1e-3))
    return (q - q.mean()) / q.std()


def test_continuous_columns_match_the_recipe_and_sklearn() -> None:
    x = np.random.default_rng(0).lognormal(3, 2, 3000)
    got = fit(table(x=x)).transform(table(x=x))
    assert got.shape == (3000, 9)
    want = exact(x)
    assert np.abs(got[:, 0] - want).mean() < 0.01
    assert np.corrcoef(got[:, 0], want)[0, 1] > 0.999
    sk = QuantileTransformer(n_quantiles=3000, output_distribution="normal").fit_transform(x[:, None])[:, 0]
    assert np.corrcoef(got[:, 0], sk)[0, 1] > 0.998
    e = np.quantile(x, np.linspace(0, 1, 9))
    ple = np.clip((x[:, None] - e[:-1]) / np.diff(e), 0, 1)
    np.testing.assert_allclose(got[:, 2:8], ple[:, 1:7], atol=0.05)


def test_few_valued_columns_are_exact() -> None:
    x = np.random.default_rng(1).choice([0.0, 1, 2, 5, 40], 1000, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    got = fit(table(x=x)).transform(table(x=x))
    np.testing.assert_allclose(got[:, 0], exact(x), atol=1e-4)


def test_missing_two_valued_constant_and_rare() -> None:
    n = np.nan
    t = table(gone=[n] * 40, one=[3.0] * 40, flag=[0.0, 7.0] * 19 + [n, n], odd=[1.0] * 39 + [9.0], half=[3.0, n] * 20)
    m = fit(t)
    assert m.dropped == ("one", "odd")
    got = m.transform(t)
    # gone: flag; flag: flag, -1/+1; half: flag
    np.testing.assert_array_equal(got[[0, 1, 39]], [[1, 0, -1, 0], [1, 0, 1, 1], [1, 1, 0, 1]])
    unseen = m.transform(table(gone=[2.0], one=[n], flag=[6.0], odd=[n], half=[n]))
    np.testing.assert_array_equal(unseen, [[0, 0, 1, 1]])


def test_levels_rare_unseen_and_missing() -> None:
    t = table(("c",), c=["a"] * 20 + ["b"] * 12 + [None] * 11 + ["rare"] * 9)
    m = fit(t)
    got = m.transform(table(("c",), c=["b", None, "rare", "new", "a"]))
    np.testing.assert_array_equal(got, [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]])


def test_only_the_given_rows_count_and_an_absent_column_is_named() -> None:
    t = table(x=np.r_[np.arange(100.0), np.full(50, 1e9)])
    m = fit_features(t, np.arange(100))
    assert m.to_json() == fit(t.take(np.arange(100))).to_json()
    with pytest.raises(DataError, match="'x'"):
        m.transform(table(y=[1.0]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(30, 400), st.floats(0, 0.4))
def test_round_trip_order_and_range(seed: int, n: int, gone: float) -> None:
    g = np.random.default_rng(seed)
    x = np.where(g.random(n) < gone, np.nan, g.choice([g.normal(0, 1e6), 0.0, g.normal()], n) + g.integers(0, 9, n))
    t = table(("c",), x=x, z=g.normal(size=n), c=list(g.choice(["a", "b", "c"], n)))
    m, order = fit(t), g.permutation(n)
    shuffled = fit(t.take(order))
    np.testing.assert_allclose(shuffled.transform(t), m.transform(t), atol=1e-5)
    back = FeatureMap.from_json(json.loads(json.dumps(m.to_json())))
    assert back == m
    got = back.transform(t)
    assert got.dtype == np.float32
    assert got.shape == (n, m.width)
    assert np.isfinite(got).all()
    extreme = table(("c",), x=[-np.inf, np.inf], z=[1e300, np.nan], c=[None, "new"])
    assert np.isfinite(m.transform(extreme)).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(60, 5000))
def test_no_rare_value_sits_in_the_map(seed: int, n: int) -> None:
    g = np.random.default_rng(seed)
    # Not rounded: the mean of a group may meet a value of a coarse lattice by chance, which shows nobody.
    x = np.r_[g.lognormal(0, 3, n), g.choice([1.0, 2.0, 3.0], n // 2), 1e12]
    m = fit(table(x=x))
    code = m.columns[0]
    assert isinstance(code, Numeric)
    assert code.distribution is not None
    values, counts = np.unique(x, return_counts=True)
    held = [*code.distribution.knots, *code.edges]
    assert not set(held) & set(values[counts < 10])
    assert max(held) < 1e9
    assert len(code.distribution.knots) <= 257


def test_ranks_are_monotone_and_near_the_truth() -> None:
    x = np.sort(np.random.default_rng(4).standard_t(1, 4000))
    d, distinct = compact_distribution(x, 10)
    u = d.mid_rank(x)
    assert distinct == 4000
    assert (np.diff(u) >= 0).all()
    assert np.abs(u - (np.arange(4000) + 0.5) / 4000).max() < 1 / 128
