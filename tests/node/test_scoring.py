import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.node.scoring import place
from fedprofile.types import Spine


@given(st.permutations(range(9)), st.integers(0, 9), st.data())
def test_only_customers_whom_enough_nodes_know_are_placed(order, known, data):
    slots = np.sort(np.array(order[:known], dtype=np.int64))
    enough = np.array(data.draw(st.lists(st.booleans(), min_size=known, max_size=known)), dtype=np.bool_)
    weighed = np.arange(1, 2 * known + 1, dtype=np.float32).reshape(known, 2)
    placed = place(weighed, Spine(9, np.arange(known), slots, enough, bytes(32)))
    assert placed.shape == (9, 2)
    assert placed[slots[enough]].tolist() == weighed[enough].tolist()
    assert np.delete(placed, slots[enough], axis=0) == pytest.approx(0)
