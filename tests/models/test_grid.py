import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.models.columns import BUCKETS
from fedprofile.models.features import fit_features
from fedprofile.models.grid import bucket_bounds, features_from_counts, grid_counts, numeric_buckets, widest
from fedprofile.types import Table


def table(n: int = 4000, seed: int = 0) -> Table:
    g = np.random.default_rng(seed)
    income = np.where(g.random(n) < 0.2, 0.0, g.lognormal(10, 1, n))
    columns = {
        "income": np.where(g.random(n) < 0.1, np.nan, income),
        "balance": g.normal(0, 3000, n),
        "age": g.integers(18, 90, n).astype(float),
        "kids": g.choice([0.0, 1, 2, 3, 4], n, p=[0.4, 0.2, 0.2, 0.15, 0.05]),
        "owner": g.integers(0, 2, n).astype(float),
        "same": np.full(n, 5.0),
        "job": np.array(g.choice(["clerk", "nurse", None], n, p=[0.5, 0.3, 0.2]), object),
    }
    return Table(np.array([f"c{i}" for i in range(n)]), columns, frozenset({"job"}))


def test_shared_features_are_close_to_own_ones() -> None:
    t = table()
    rows = np.arange(len(t))
    own = fit_features(t, rows)
    shared = features_from_counts(t.schema, grid_counts(t, rows))
    assert shared.dropped == own.dropped == ("same",)
    a, b, at = own.transform(t), shared.transform(t), {}
    for m, key in ((own, "own"), (shared, "shared")):
        start = 0
        for code in m.columns:
            at[key, code.column] = (start, code)
            start += code.width
    for name in ("income", "balance", "age", "kids"):
        (i, own_code), (j, shared_code) = at["own", name], at["shared", name]
        assert own_code.missing == shared_code.missing
        x, y = a[:, i + own_code.missing], b[:, j + shared_code.missing]
        assert np.abs(x - y).mean() < 0.05, name
        assert np.corrcoef(x, y)[0, 1] > 0.995, name
    # Piecewise-linear pieces of a continuous column agree too.
    i, j = at["own", "balance"][0], at["shared", "balance"][0]
    assert np.abs(a[:, i + 2 : i + 8] - b[:, j + 2 : j + 8]).mean() < 0.02
    for name in ("owner", "job"):
        i, j, w = at["own", name][0], at["shared", name][0], at["own", name][1].width
        assert at["shared", name][1].width == w
        np.testing.assert_array_equal(np.sort(a[:, i : i + w].sum(0)), np.sort(b[:, j : j + w].sum(0)))


def test_only_the_sum_matters() -> None:
    t = table(900)
    whole = features_from_counts(t.schema, grid_counts(t, np.arange(900)))
    parts = [grid_counts(t, np.arange(i, 900, 3)) for i in range(3)]
    opened = {c: sum(p[c].astype(np.float64) for p in parts) for c in t.schema.columns}
    assert features_from_counts(t.schema, opened) == whole


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=True, width=64))
def test_a_number_lies_in_its_bucket(x: float) -> None:
    bucket = numeric_buckets(np.array([x]))
    low, high = bucket_bounds(bucket)
    assert 1 <= bucket[0] < BUCKETS
    if abs(x) < 2**31.9:
        assert low[0] * (1 + 1e-9 * np.sign(-low[0])) <= x <= high[0] * (1 + 1e-9 * np.sign(high[0]))


def test_buckets_grow_with_the_number_and_touch() -> None:
    buckets = numeric_buckets(np.array([np.nan, -np.inf, -1e12, -3, -1, -1e-9, 0, 1e-9, 0.5, 1, 2, 3, 1e12, np.inf]))
    assert buckets[0] == 0
    assert (np.diff(buckets[1:]) >= 0).all()
    low, high = bucket_bounds(np.arange(1, 1010))
    np.testing.assert_array_equal(high[:-1], low[1:])
    assert len(set(numeric_buckets(np.arange(1.0, 14)))) == 13


def test_rare_buckets_and_levels_stay_out() -> None:
    n = 300
    x = np.r_[np.full(150, 1.0), np.full(141, 8.0), np.full(9, 4e6)]
    c = np.array(["a"] * 200 + ["b"] * 91 + ["rare"] * 9, object)
    x_missing = np.r_[np.full(9, np.nan), np.tile([1.0, 2.0, 3.0], 97)]
    t = Table(np.arange(n).astype(str), {"x": x, "m": x_missing, "c": c}, frozenset({"c"}))
    m = features_from_counts(t.schema, grid_counts(t, np.arange(n)))
    codes = {code.column: code for code in m.columns}
    assert max(codes["x"].distribution.knots) < 10
    assert not codes["m"].missing
    assert len(codes["c"].buckets) == 2
    assert np.isfinite(m.transform(t)).all()


def test_counts_of_another_shape_are_refused() -> None:
    t = table(30)
    with pytest.raises(ValueError, match="income"):
        features_from_counts(t.schema, {"income": np.zeros(8)})


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000))
@settings(max_examples=25, deadline=None)
def test_no_features_are_wider_than_said(seed, rows) -> None:
    rng = np.random.default_rng(seed)
    words = np.array([f"v{i}" for i in rng.zipf(1.3, rows) % 2000], object)
    numbers = {f"x{i}": rng.normal(0, 10.0**i, rows).round(i) for i in range(3)}
    table = Table(np.arange(rows).astype(str), {**numbers, "c": words}, frozenset({"c"}))
    made = features_from_counts(table.schema, grid_counts(table, np.arange(rows)))
    assert made.width <= widest(table.schema, {"c": len(set(words))})
