import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.node.scoring import place, weigh
from fedprofile.types import Spine, Task

TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))


def test_each_task_is_weighed_by_its_own_gain():
    log_odds = np.array([[1, -2, 4], [9, 0, -20]], np.float32)
    weighed = weigh(log_odds, {"tier": 0.25, "invest": 0.0}, {"tier": 1.0, "invest": 1.0}, TASKS)
    assert weighed.tolist() == [[0.5, -1, 0], [4.5, 0, 0]]
    assert log_odds[1].tolist() == [9, 0, -20]
    assert weigh(log_odds, {"tier": 9, "invest": 1}, {"tier": 1, "invest": 1}, TASKS).tolist() == [
        [1.5, -3, 4],
        [8, 0, -8],
    ]


@given(st.permutations(range(9)), st.integers(0, 9), st.data())
def test_only_customers_whom_enough_nodes_know_are_placed(order, known, data):
    slots = np.sort(np.array(order[:known], dtype=np.int64))
    enough = np.array(data.draw(st.lists(st.booleans(), min_size=known, max_size=known)), dtype=np.bool_)
    weighed = np.arange(1, 2 * known + 1, dtype=np.float32).reshape(known, 2)
    placed = place(weighed, Spine(9, np.arange(known), slots, enough, bytes(32)))
    assert placed.shape == (9, 2)
    assert placed[slots[enough]].tolist() == weighed[enough].tolist()
    assert np.delete(placed, slots[enough], axis=0) == pytest.approx(0)
