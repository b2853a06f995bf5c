from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import DataError
from fedprofile.governance.envelope import Vault
from fedprofile.governance.permits import SimulatedPermit
from fedprofile.node.source import Sealing, read_ids, read_permitted, write_table
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


@pytest.fixture
def sealed(tmp_path):
    sealing = Sealing(Vault("tax", b"\7" * 32), {"x": "C3", "c": "C3"})
    write_table(TABLE, tmp_path / "sealed.parquet", sealing)
    return tmp_path / "sealed.parquet", sealing.vault


def test_sensitive_columns_lie_encrypted_and_open_through_the_permit(sealed):
    import polars as pl

    path, vault = sealed
    assert pl.read_parquet(path).schema == {"__id__": pl.Utf8, "x": pl.Binary, "c": pl.Binary, "__y": pl.Float64}
    table, spine = read_permitted(path, frozenset({"c"}), SPINE, Only(("a", "b")), "training", vault)
    assert table.ids.tolist() == ["a", "b"]
    assert np.array_equal(table.columns["x"], [1.0, np.nan], equal_nan=True)
    assert table.columns["c"].tolist() == ["u", None]
    assert table.columns["__y"].tolist() == [0, 1]
    assert table.schema == TABLE.schema
    assert spine.slots.tolist() == [4, 8]


def test_a_cell_without_permit_is_not_even_opened(sealed, monkeypatch):
    path, vault = sealed
    opened = []
    original = Vault.open

    def watch(self, column, cells, rows, *rest):
        opened.append(rows.tolist())
        return original(self, column, cells, rows, *rest)

    monkeypatch.setattr(Vault, "open", watch)
    read_permitted(path, frozenset({"c"}), SPINE, Only(("b", "d")), "training", vault)
    assert opened == [[3, 1], [3, 1]]


def test_encrypted_columns_need_their_home(sealed):
    path, vault = sealed
    with pytest.raises(DataError, match="encrypted columns"):
        read_permitted(path, frozenset({"c"}), SPINE, SimulatedPermit(), "training")
    with pytest.raises(DataError, match="does not open"):
        read_permitted(path, frozenset({"c"}), SPINE, SimulatedPermit(), "training", replace(vault, kek=bytes(32)))


def test_a_cell_belongs_to_its_customer(sealed):
    import polars as pl

    path, vault = sealed
    frame = pl.read_parquet(path)
    frame.with_columns(frame["__id__"].reverse()).write_parquet(path)
    with pytest.raises(DataError, match="does not open"):
        read_permitted(path, frozenset({"c"}), SPINE, SimulatedPermit(), "training", vault)


@pytest.mark.parametrize("damage", [None, b"", b"{}", b'{"snapshot": "00", "columns": {"x": 1}}'])
def test_lost_or_damaged_keys_are_named(sealed, damage):
    path, vault = sealed
    file = path.with_suffix(".sealed.json")
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(DataError, match=r"sealed\.sealed\.json: the keys"):
        read_permitted(path, frozenset({"c"}), SPINE, SimulatedPermit(), "training", vault)


@settings(max_examples=40, deadline=None)
@given(allowed=st.sets(st.sampled_from("abcdefgh")), rows=st.lists(st.integers(0, 7), unique=True), seal=st.booleans())
def test_what_comes_out_is_what_stands_in_the_spine_and_the_permit_allows(tmp_path_factory, allowed, rows, seal):
    path, vault = tmp_path_factory.mktemp("table") / "t.parquet", Vault("tax", bytes(32))
    ids = np.array(list("abcdefgh"))
    write_table(Table(ids, {"x": np.arange(8.0)}), path, Sealing(vault, {"x": "C3"}) if seal else None)
    slots = np.arange(len(rows)) * 3
    spine = Spine(30, np.array(rows, dtype=np.int64), slots, np.ones(len(rows), bool), bytes(32))
    permit = Only(tuple(allowed))
    table, left = read_permitted(path, frozenset(), spine, permit, "training", vault)
    expected = [(r, s) for r, s in zip(rows, slots.tolist(), strict=True) if ids[r] in allowed]
    assert list(zip(left.rows.tolist(), left.slots.tolist(), strict=True)) == expected
    assert (table.ids.tolist(), table.columns["x"].tolist()) == (
        [ids[r] for r, _ in expected],
        [r for r, _ in expected],
    )
    assert read_ids(path, permit)[1].tolist() == sorted(allowed)


def test_a_table_that_is_stored_plain_again_leaves_no_keys_behind(sealed):
    path, _ = sealed
    write_table(TABLE, path)
    assert not path.with_suffix(".sealed.json").exists()
    with pytest.raises(DataError, match="column 'nope'"):
        write_table(TABLE, path, Sealing(Vault("tax", bytes(32)), {"nope": "C3"}))


def test_nothing_else_at_a_party_reads_a_stored_table():
    """Whoever reads rows for a run asks a permit: the parties' rooms open Parquet in one place for that.

    The intake looks at every row of the party's own table, before any run; it compares it with the one before.
    """
    from pathlib import Path

    import fedprofile

    root = Path(fedprofile.__file__).parent
    rooms = [f for room in ("node", "label_owner", "flower", "coordinator") for f in (root / room).rglob("*.py")]
    readers = [f.relative_to(root).as_posix() for f in rooms if "_parquet(" in f.read_text()]
    assert sorted(readers) == ["node/source.py", "node/unchanged.py"]
