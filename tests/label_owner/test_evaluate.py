from dataclasses import replace

import numpy as np
import pytest

from fedprofile.errors import UsageError
from fedprofile.label_owner.evaluate import owner_data, read_sums


def test_labels_rows_and_split_belong_together(ready):
    world, _ = ready
    data = owner_data(world.home("bank"), world.job.plan, world.job.roster)
    labels = world.federation.labels
    true = dict(zip(labels.ids.tolist(), labels.values["tier"].tolist(), strict=True))
    assert data.labels["tier"].tolist() == [true[i] for i in data.table.ids.tolist()]
    assert (data.train.astype(int) + data.valid + data.test == 1).all()
    assert data.train.mean() == pytest.approx(0.6, abs=0.06)
    assert (data.bank.train == data.train).all()


def test_known_names_the_roles_that_know_a_customer_whom_enough_nodes_know(roles_ready):
    roles, _ = roles_ready
    data = owner_data(roles.home("bank"), roles.job.plan, roles.job.roster)
    assert data.roles == ("ecommerce", "tax")
    knows = {
        role: set(np.concatenate([n.table.ids for n in roles.dealt if n.role == role]).tolist()) for role in data.roles
    }
    views = [[i in knows[role] for role in data.roles] for i in data.table.ids.tolist()]
    # Members of a role hold different customers, so two views are two roles.
    assert data.known.tolist() == [[float(all(v))] * 2 for v in views]


def test_a_partner_may_have_the_owners_role(ready):
    world, _ = ready
    parties = tuple(replace(p, role="bank" if p.id == "tax" else p.role) for p in world.job.roster.parties)
    roster = replace(world.job.roster, parties=parties)
    data = owner_data(world.home("bank"), world.job.plan, roster)
    assert data.roles == ("ecommerce", "bank")
    assert (data.known == owner_data(world.home("bank"), world.job.plan, world.job.roster).known).all()


def test_the_fold_rotates_the_split(ready):
    world, _ = ready
    from fedprofile.label_owner.home import write_owner

    home = world.home("bank")
    before = owner_data(home, world.job.plan, world.job.roster)
    write_owner(home.path, world.federation.labels, 1)
    after = owner_data(home, world.job.plan, world.job.roster)
    assert (after.test == before.valid).all()
    assert not (after.test & before.test).any()


def test_no_sum_no_fusion(world):
    with pytest.raises(UsageError):
        read_sums(world.home("bank"), np.arange(3))


def test_fusion_gives_distributions_and_the_bank_alone_score_to_customers_nobody_knows(fused):
    for task, classes in (("tier", 3), ("invest", 2)):
        p = fused.federated[task]
        assert p.shape == (600, classes)
        assert np.allclose(p.sum(1), 1)
        unknown = ~fused.data.known.any(1)
        assert unknown.any()
        alone = fused.bank.predict(fused.data.table)[task]
        assert np.allclose(p[unknown], alone[unknown])
    assert set(fused.bank.choice.values()) <= {"gbdt", "network"}


def test_the_bank_learns_from_true_labels(fused):
    y, p = fused.data.labels["tier"], fused.bank_alone["tier"]
    test = fused.data.test
    assert (p[test].argmax(1) == y[test]).mean() > np.bincount(y[test]).max() / test.sum()


def test_the_repr_shows_no_customer(fused):
    assert "EXAMPLE" not in repr(fused)
