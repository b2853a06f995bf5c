"""A simulated party's figure is the one of its role's contract, and nothing where that is about other columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedprofile.data.contract_file import shipped_contract
from fedprofile.simulation.quality import table_quality
from fedprofile.types import Table

N = 400


def households() -> Table:
    """What the contract of the tax office lists, every household of three or more people without old ones."""
    draw = np.random.default_rng(0)
    columns = {}
    for column in shipped_contract("tax").features:
        codes = ["3", "4"] if "People" in column.name else ["0"] if "Adults" in column.name else ["0", "1"]
        columns[column.name] = np.array([*codes, *draw.choice(codes, N - len(codes))], dtype=object)
    ids = np.array([f"{93_000 + i}" for i in range(N)])
    return Table(ids, columns, frozenset(columns))


def changed(table: Table, column: str, rows: slice, value: object) -> Table:
    values = table.columns[column].copy()
    values[rows] = value
    return replace(table, columns={**table.columns, column: values})


def test_known_faults_have_known_figures():
    """Each fault is of another part; one column of five holds one value only."""
    whole, family = households(), "TotalNumberOfPeopleInTheFamily"
    assert table_quality(whole, "tax") == 0.8
    assert table_quality(changed(whole, family, slice(100, 140), "nine"), "tax") == 0.72, "validity 0.9"
    alone = changed(whole, "TotalNumberOfPeopleInTheHousehold", slice(100, 140), "1")
    assert table_quality(alone, "tax") == 0.72, "consistency 0.9"


def test_a_table_of_other_columns_is_not_measured():
    table = households()
    assert table_quality(table, "medical") is None
    assert table_quality(table, "shop") is None
    more = replace(table, columns={**table.columns, "debts": np.ones(N)})
    assert table_quality(more, "tax") is None
