from dataclasses import replace

import numpy as np
import pytest

from fedprofile.data.example import example
from fedprofile.node.spine import read_spine
from fedprofile.simulation import baselines
from fedprofile.simulation.baselines import compute, pool
from fedprofile.simulation.cache import Cache


def test_pooling_puts_each_partys_columns_beside_each_other_and_missing_where_absent():
    federation = example(("bank", "ecommerce", "tax"))
    ids = np.append(federation.tables["bank"].ids[:50], "STRANGER")
    wide = pool(federation, ids)
    assert wide.ids.tolist() == ids.tolist()
    assert set(wide.columns) == {f"{p}.{c}" for p, t in federation.tables.items() for c in t.columns}
    for party, table in federation.tables.items():
        row = {i: r for r, i in enumerate(table.ids.tolist())}
        for name, values in table.columns.items():
            pooled = wide.columns[f"{party}.{name}"]
            categorical = name in table.categorical
            assert (f"{party}.{name}" in wide.categorical) == categorical
            expected = [values[row[i]] if i in row else (None if categorical else np.nan) for i in ids.tolist()]
            if categorical:
                assert pooled.tolist() == expected
            else:
                assert np.array_equal(pooled, np.array(expected), equal_nan=True)


@pytest.fixture(scope="module")
def computed(finished_once, fused, tmp_path_factory):
    world, _ = finished_once
    config = replace(world.config, fusion=replace(world.config.fusion, parts=["linear"], view_dropout=0.0))
    cache = Cache(tmp_path_factory.mktemp("cache"))
    arguments = (config, world.federation, world.job.plan, world.job.roster, world.homes, fused, cache)
    return compute(*arguments), arguments


def test_every_baseline_is_a_distribution_of_every_customer(computed):
    found, _ = computed
    assert set(found.without) == {"ecommerce", "tax"}
    for by_task in (found.pooled_network, found.pooled_gbdt, found.members_alone, *found.without.values()):
        assert {t: p.shape for t, p in by_task.items()} == {"tier": (600, 3), "invest": (600, 2)}
        assert all(np.allclose(p.sum(1), 1) for p in by_task.values())


def test_without_a_partner_its_scores_are_gone(computed, fused, finished_once, monkeypatch):
    _, arguments = computed
    world, _ = finished_once
    monkeypatch.setattr(baselines, "_fused", lambda _config, _fusion, sums, known=None: {"sums": sums, "known": known})
    slots = read_spine(world.home("bank")).slots
    for role, other in (("tax", "ecommerce"), ("ecommerce", "tax")):
        left = compute(*arguments).without[role]
        said = world.node(other).run.placed_scores()[slots]
        assert np.abs(left["sums"] - said).max() < 2 / 16
        column = fused.data.roles.index(role)
        assert not left["known"][:, column].any()
        assert (np.delete(left["known"], column, 1) == np.delete(fused.data.known, column, 1)).all()
    assert fused.data.known.any(0).all()


def test_what_was_computed_is_found_again_and_not_for_other_data(computed, monkeypatch):
    found, arguments = computed

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(baselines, "_pooled", never)
    monkeypatch.setattr(baselines, "_members_alone", never)
    again = compute(*arguments)
    for task, p in found.pooled_gbdt.items():
        assert (again.pooled_gbdt[task] == p).all()
        assert (again.members_alone[task] == found.members_alone[task]).all()
    config, federation, plan, *rest = arguments
    for other in (
        (config, replace(federation, digest=bytes(32)), plan),
        (replace(config, data=replace(config.data, fold=1)), federation, plan),
        (config, federation, replace(plan, seed=1)),
        (replace(config, federation=replace(config.federation, overlap=0.5)), federation, plan),
    ):
        with pytest.raises(AssertionError, match="computed again"):
            compute(*other, *rest)


def test_the_repr_shows_no_number(computed):
    assert "array" not in repr(computed[0])
