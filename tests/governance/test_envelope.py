import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.errors import DataError
from fedprofile.governance.envelope import SealedColumn, Vault

SNAPSHOT, VAULT = bytes(32), Vault("tax", b"\7" * 32)
texts = st.lists(st.none() | st.text(max_size=9), max_size=6)
numbers = st.lists(st.floats(allow_nan=True), max_size=6)


def seal(values, kind="number", column="income", vault=VAULT):
    return vault.seal(values, kind, column, SNAPSHOT, "C3")


@given(numbers)
def test_numbers_come_back_to_the_bit(values):
    array = np.array(values)
    sealed, cells = seal(array)
    assert VAULT.open(sealed, cells, np.arange(len(cells)), "income", SNAPSHOT).tobytes() == array.tobytes()


@given(texts)
def test_texts_and_missing_ones_come_back_and_all_cells_are_equally_long(values):
    array = np.array(values, dtype=object)
    sealed, cells = seal(array, "text")
    assert VAULT.open(sealed, cells, np.arange(len(cells)), "income", SNAPSHOT).tolist() == values
    assert len({len(c) for c in cells}) <= 1


def test_single_rows_open_alone():
    sealed, cells = seal(np.arange(9.0))
    rows = np.array([7, 2])
    assert VAULT.open(sealed, [cells[7], cells[2]], rows, "income", SNAPSHOT).tolist() == [7, 2]


def test_equal_values_look_different_and_keys_are_fresh():
    sealed, cells = seal(np.ones(50))
    again, others = seal(np.ones(50))
    assert len({*cells, *others}) == 100
    assert sealed.key != again.key
    assert SealedColumn.from_json(sealed.to_json()) == sealed


def flipped(data):
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


@pytest.mark.parametrize(
    "trick",
    ["row", "column", "snapshot", "grade", "party", "kek", "cell", "wrapped key", "key of another", "short", "fewer"],
)
def test_what_was_moved_or_changed_does_not_open(trick):
    sealed, cells = seal(np.arange(2.0))
    other, _ = seal(np.arange(2.0), column="other")
    vault, rows, column, snapshot = VAULT, np.arange(2), "income", SNAPSHOT
    match trick:
        case "row":
            cells = cells[::-1]
        case "column":
            column = "other"
        case "snapshot":
            snapshot = os.urandom(32)
        case "grade":
            sealed = replace(sealed, grade="C2")
        case "party":
            vault = replace(VAULT, party="bank")
        case "kek":
            vault = replace(VAULT, kek=bytes(32))
        case "cell":
            cells = [flipped(cells[0]), cells[1]]
        case "wrapped key":
            sealed = replace(sealed, key=flipped(sealed.key))
        case "key of another":
            sealed = replace(sealed, key=other.key)
        case "short":
            cells = [b"", b""]
        case "fewer":
            cells = cells[:1]
    with pytest.raises(DataError, match="does not open"):
        vault.open(sealed, cells, rows, column, snapshot)


def test_nothing_shows_a_key():
    assert "07" * 4 not in repr(VAULT)
    assert VAULT.kek.hex() not in repr(VAULT)
    assert repr(b"\7") not in repr(VAULT)
