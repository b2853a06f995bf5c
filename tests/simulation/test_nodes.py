import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.alignment.hashing import row_order
from fedprofile.data.example import example
from fedprofile.simulation.nodes import SimulatedNode, align, deal

FEDERATION = example(("bank", "ecommerce", "tax"))


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("overlap", [1.0, 0.5])
def test_members_partition_the_customers_of_their_role(members, overlap):
    nodes = deal(FEDERATION, members, overlap)
    assert (nodes[0].id, nodes[0].role, len(nodes[0].table)) == ("bank", "bank", 600)
    one = deal(FEDERATION, 1, overlap)
    for whole in one[1:]:
        parts = [n for n in nodes if n.role == whole.role]
        assert len(parts) == members
        ids = np.concatenate([n.table.ids for n in parts]).tolist()
        assert sorted(ids) == sorted(whole.table.ids.tolist())


def test_overlap_thins_every_partner_by_itself_and_keeps_the_label_owner():
    bank, *partners = deal(FEDERATION, 1, 0.4)
    assert len(bank.table) == 600
    assert [len(n.table) / 480 for n in partners] == pytest.approx([0.4, 0.4], abs=0.08)
    thinner = deal(FEDERATION, 1, 0.2)
    assert all(set(b.table.ids) < set(a.table.ids) for a, b in zip(partners, thinner[1:], strict=True))
    assert set(partners[0].table.ids) != set(partners[1].table.ids)


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_the_order_of_rows_changes_nothing_but_rows(seed):
    nodes, rng = deal(FEDERATION, 1, 1.0), np.random.default_rng(seed)
    order = {n.id: rng.permutation(len(n.table)) for n in nodes}
    shuffled = [SimulatedNode(n.id, n.role, n.table.take(order[n.id])) for n in nodes]
    here, there = align(nodes, b"s", 2), align(shuffled, b"s", 2)
    assert here.hash == there.hash
    assert (here.enough == there.enough).all()
    for party, known in here.known.items():
        assert (known == there.known[party]).all()
    for n in nodes:
        a, b = here.spines[n.id], there.spines[n.id]
        assert (a.slots == b.slots).all()
        assert (a.enough == b.enough).all()
        assert (a.rows == order[n.id][b.rows]).all()


def test_one_slot_is_one_customer_at_every_node():
    nodes = deal(FEDERATION, 2, 1.0)
    aligned = align(nodes, b"s", 2)
    seen = {}
    for n in nodes:
        spine = aligned.spines[n.id]
        assert spine.size == 600
        assert spine.hash == aligned.hash
        assert row_order(n.table.ids[spine.rows]).tolist() == list(range(len(spine.rows)))
        for slot, row in zip(spine.slots.tolist(), spine.rows.tolist(), strict=True):
            assert seen.setdefault(slot, n.table.ids[row]) == n.table.ids[row]
        if n.id != "bank":
            assert np.flatnonzero(aligned.known[n.id]).tolist() == sorted(spine.slots.tolist())
    assert len(seen) == len(set(seen.values())) == 600


@pytest.mark.parametrize("views", [1, 2, 3])
def test_enough_counts_partners_not_the_label_owner(views):
    nodes = deal(FEDERATION, 1, 1.0)
    aligned = align(nodes, b"s", views)
    assert "bank" not in aligned.known
    assert (aligned.enough == (sum(k.astype(int) for k in aligned.known.values()) >= views)).all()
    assert aligned.enough.any() == (views < 3)


def test_customers_whom_the_label_owner_does_not_know_are_left_out():
    bank, ecommerce, tax = deal(FEDERATION, 1, 1.0)
    fewer = SimulatedNode("bank", "bank", bank.table.take(np.arange(10)))
    aligned = align([fewer, ecommerce, tax], b"s", 1)
    assert {len(s.slots) <= 10 for s in aligned.spines.values()} == {True}
    assert set(ecommerce.table.ids[aligned.spines["ecommerce"].rows]) <= set(fewer.table.ids)


def test_the_spine_is_of_its_secret():
    nodes = deal(FEDERATION, 1, 1.0)
    a, b = align(nodes, b"s", 2), align(nodes, b"t", 2)
    assert a.hash != b.hash
    assert a.spines["bank"].slots.tolist() != b.spines["bank"].slots.tolist()
    assert a.spines["bank"].rows.tolist() == b.spines["bank"].rows.tolist(), "the order of rows is the same in all runs"
