from dataclasses import dataclass

import numpy as np
import pytest

from fedprofile.governance.permits import SimulatedPermit
from fedprofile.node.source import read_ids, read_permitted, write_table
from fedprofile.types import Spine, Table

TABLE = Table(
    np.array(["a", "b", "c", "d"]),
    {
        "x": np.array([1.0, np.nan, 3.0, np.inf]),
        "c": np.array(["u", None, "", "w"], dtype=object),
        "__y": np.arange(4.0),
    },
    frozenset({"c"}),
)
SPINE = Spine(9, np.array([3, 0, 1]), np.array([1, 4, 8]), np.array([True, False, True]), bytes(32))


@dataclass
class Only:
    """Consent of some customers, and what was asked."""

    subjects: tuple[str, ...]
    asked: tuple[str, ...] = ()

    def allowed(self, subjects, use, at):
        self.asked += (use,)
        assert at.tzinfo is not None
        return np.isin(subjects, self.subjects)


@pytest.fixture
def path(tmp_path):
    write_table(TABLE, tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def test_rows_come_in_the_order_of_the_spine_with_missing_values_missing(path):
    table, spine = read_permitted(path, frozenset({"c"}), SPINE, SimulatedPermit(), "training")
    assert table.ids.tolist() == ["d", "a", "b"]
    assert table.schema == TABLE.schema
    assert np.array_equal(table.columns["x"], [np.inf, 1.0, np.nan], equal_nan=True)
    assert table.columns["c"].tolist() == ["w", "u", None]
    assert spine.slots.tolist() == [1, 4, 8]


def test_only_permitted_ids_are_aligned(path):
    permit = Only(("a", "c", "d"))
    rows, ids = read_ids(path, permit)
    assert permit.asked == ("alignment",)
    assert (rows.tolist(), ids.tolist()) == ([0, 2, 3], ["a", "c", "d"])


def test_a_row_without_permit_is_not_read(path):
    permit = Only(("a", "b", "c"))
    table, spine = read_permitted(path, frozenset({"c"}), SPINE, permit, "label_release")
    assert permit.asked == ("label_release",)
    assert table.ids.tolist() == ["a", "b"]
    assert (spine.rows.tolist(), spine.slots.tolist(), spine.enough.tolist()) == ([0, 1], [4, 8], [False, True])
    assert (spine.size, spine.hash) == (9, bytes(32))


def test_nobodys_permit_gives_an_empty_table(path):
    table, spine = read_permitted(path, frozenset({"c"}), SPINE, Only(()), "score")
    assert len(table) == len(spine.rows) == 0
    assert table.schema == TABLE.schema
