"""Thresholds and graphs: the table's rows, what holds between them, and that fewer than ``degree`` cannot cut a ring."""

from __future__ import annotations

import random

import pytest

from fedprofile.errors import PolicyRefusal
from fedprofile.secagg.graph import COMPLETE, Circle, graph_of


def circle(n, colluders=0, t0=b"t" * 32):
    return Circle(t0, tuple(f"p{i}" for i in range(n)), graph_of(n, colluders))


@pytest.mark.parametrize(("n", "colluders", "threshold"), [(3, 1, 3), (4, 0, 3), (4, 1, 3), (5, 1, 4), (10, 3, 7)])
def test_small_cohorts_of_section_5_2(n, colluders, threshold):
    graph = graph_of(n, colluders)
    assert (graph.threshold, graph.quorum, graph.degree) == (threshold, threshold, n - 1)


@pytest.mark.parametrize(
    ("n", "colluders", "row"),
    [
        (50, 2, (8, 6)),
        (50, 5, (10, 8)),
        (100, 5, (16, 11)),
        (100, 10, (22, 17)),
        (200, 40, (76, 57)),
        (300, 0, (38, 27)),
    ],
)
def test_rows_of_section_5_2(n, colluders, row):
    graph = graph_of(n, colluders)
    assert (graph.degree, graph.threshold) == row


def test_between_rows_the_larger_one_holds():
    assert [graph_of(n, 0).degree for n in (33, 51, 101, 299)] == [8, 16, 30, 38]


@pytest.mark.parametrize("share", [0, 0.05, 0.1, 0.2, 0.33])
def test_what_every_graph_promises(share):
    for n in range(3, 301):
        colluders = int(share * n)
        try:
            graph = graph_of(n, colluders)
        except PolicyRefusal:
            assert share == 0.33
            continue
        assert 2 * graph.quorum > n + colluders
        assert colluders < graph.threshold <= graph.degree + 1 <= n
        assert graph.complete == (n <= COMPLETE)


@pytest.mark.parametrize(("n", "colluders"), [(301, 0), (300, 99), (40, 20), (3, 3)])
def test_no_graph(n, colluders):
    with pytest.raises(PolicyRefusal, match="threshold_refused"):
        graph_of(n, colluders)


@pytest.mark.parametrize("n", [4, 32, 33, 100])
def test_neighbours_are_mutual_and_holders_hold(n):
    c = circle(n)
    for p in c.members:
        assert len(c.neighbours(p)) == c.graph.degree
        assert p not in c.neighbours(p)
        assert set(c.holders(p)) == {p, *c.neighbours(p)}
        assert all(p in c.neighbours(q) for q in c.neighbours(p))
    assert sorted(c.point(p) for p in c.members) == list(range(1, n + 1))


def _connected(c, left):
    reached, front = set(), [next(iter(left))]
    while front:
        p = front.pop()
        reached.add(p)
        front += [q for q in c.neighbours(p) if q in left and q not in reached]
    return reached == left


@pytest.mark.parametrize(("n", "colluders"), [(33, 0), (50, 2), (100, 5)])
def test_fewer_than_degree_cannot_cut_the_ring(n, colluders):
    """Random losses, and the worst: all round one member but for the last neighbour."""
    c, rng = circle(n, colluders), random.Random(n)
    everyone = set(c.members)
    for _ in range(30):
        assert _connected(c, everyone - set(rng.sample(c.members, c.graph.degree - 1)))
    for p in c.members[:10]:
        around = list(c.neighbours(p))
        rng.shuffle(around)
        assert _connected(c, everyone - set(around[:-1]))
        assert not _connected(c, everyone - set(around))


def test_the_transcript_orders_the_ring():
    one, other = circle(50), circle(50, t0=b"u" * 32)
    assert any(one.neighbours(p) != other.neighbours(p) for p in one.members)
