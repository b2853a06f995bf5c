import numpy as np
import pytest

from fedprofile.node.spine import read_simulated_spine, read_spine, write_simulated_spine, write_spine
from fedprofile.types import Spine

SPINE = Spine(7, np.array([2, 0]), np.array([1, 5]), np.array([True, False]), b"\3" * 32)


@pytest.mark.parametrize(
    ("write", "read"), [(write_spine, read_spine), (write_simulated_spine, read_simulated_spine)], ids=["run", "home"]
)
def test_a_spine_survives_its_file(world, write, read):
    write(world.home("tax"), SPINE)
    back = read(world.home("tax"))
    assert (back.size, back.hash) == (7, b"\3" * 32)
    assert [back.rows.tolist(), back.slots.tolist(), back.enough.tolist()] == [[2, 0], [1, 5], [True, False]]


@pytest.mark.parametrize("read", [read_spine, read_simulated_spine])
def test_there_is_none_before_the_run_has_aligned(world, code_of, read):
    assert code_of(lambda: read(world.home("tax"))) == "no_spine"


def test_what_was_simulated_is_not_yet_the_runs(world, code_of):
    write_simulated_spine(world.home("tax"), SPINE)
    assert code_of(lambda: read_spine(world.home("tax"))) == "no_spine"


def test_a_new_run_has_no_spine(world, code_of):
    write_spine(world.home("tax"), SPINE)
    world.home("tax").clear_run()
    assert code_of(lambda: read_spine(world.home("tax"))) == "no_spine"
