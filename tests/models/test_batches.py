import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.models.batches import Batches


def make(seed: int, sizes: list[int], size: int) -> Batches:
    rows = [np.arange(n, dtype=np.int64) + 1000 * f for f, n in enumerate(sizes)]
    return Batches(rows, size, torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 40), min_size=2, max_size=4), st.integers(1, 50))
def test_every_pass_sees_each_row_once_and_resumes_anywhere(seed: int, sizes: list[int], size: int) -> None:
    batches = make(seed, sizes, size)
    drawn = [batches.draw().numpy() for _ in range(6)]
    state = {k: v.copy() for k, v in batches.state().items()}
    later = [batches.draw() for _ in range(3)]
    for f, n in enumerate(sizes):
        seen = np.concatenate([d[f] for d in drawn])
        for start in range(0, len(seen) - n + 1, n):
            np.testing.assert_array_equal(np.sort(seen[start : start + n]), np.arange(n) + 1000 * f)
    other = make(seed + 1, sizes, size)
    other.restore(state)
    assert all(torch.equal(a, other.draw()) for a in later)


def test_a_state_of_other_replicas_is_refused() -> None:
    with pytest.raises(KeyError):
        make(0, [5, 5, 5], 2).restore(make(0, [5, 5], 2).state())
