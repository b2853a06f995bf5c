import numpy as np
import polars as pl

from fedprofile.simulation.outputs import write_predictions


def test_predictions_are_of_test_customers_by_a_pseudonym_of_the_label_owner(finished, fused):
    world, _ = finished
    models = {"federated": fused.federated, "bank_alone": fused.bank_alone}
    for name, home in (("a", "bank"), ("b", "tax")):
        write_predictions(world.root / f"{name}.parquet", fused, models, world.job.plan.tasks, world.home(home))
    a, b = pl.read_parquet(world.root / "a.parquet"), pl.read_parquet(world.root / "b.parquet")
    test = fused.data.test
    assert len(a) == test.sum()
    assert a["pseudonym"].n_unique() == len(a)
    assert not set(a["pseudonym"]) & set(b["pseudonym"])
    assert b"EXAMPLE" not in (world.root / "a.parquet").read_bytes()
    assert a["tier.label"].to_list() == fused.data.labels["tier"][test].tolist()
    assert a["covered"].to_list() == fused.data.known[test].any(1).tolist()
    for source, p in models.items():
        columns = a.select([f"tier.{source}.p{k}" for k in range(3)]).to_numpy()
        assert (columns == p["tier"][test]).all()
        assert np.allclose(columns.sum(1), 1)
