"""The only way from a stored table to rows in memory: through a permit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedprofile.governance.permits import Permit, Use
from fedprofile.types import Spine, Table

_ID = "__id__"


def write_table(table: Table, path: Path) -> None:
    """Store a private table as Parquet; missing values become nulls."""
    import polars as pl

    columns: dict[str, pl.Series] = {_ID: pl.Series(table.ids.tolist(), dtype=pl.Utf8)}
    for name, values in table.columns.items():
        if name in table.categorical:
            columns[name] = pl.Series(values.tolist(), dtype=pl.Utf8)
        else:
            columns[name] = pl.Series(values, dtype=pl.Float64, nan_to_null=True)
    pl.DataFrame(columns).write_parquet(path)


def read_ids(path: Path, permit: Permit) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Positions (n,) and ids (n,) of the rows that ``permit`` allows to be aligned now; no other column is read."""
    import polars as pl

    ids = np.array(pl.read_parquet(path, columns=[_ID])[_ID].to_list(), dtype=np.str_)
    rows = np.flatnonzero(permit.allowed(ids, "alignment", datetime.now(UTC)))
    return rows, ids[rows]


def read_permitted(
    path: Path, categorical: frozenset[str], spine: Spine, permit: Permit, use: Use
) -> tuple[Table, Spine]:
    """The spine's rows that ``permit`` allows for ``use`` now, in spine order, and the spine restricted to them."""
    import polars as pl

    frame = pl.read_parquet(path)
    ids = np.array(frame[_ID].to_list(), dtype=np.str_)
    allowed = permit.allowed(ids, use, datetime.now(UTC))[spine.rows]
    restricted = Spine(spine.size, spine.rows[allowed], spine.slots[allowed], spine.enough[allowed], spine.hash)
    frame, ids = frame[restricted.rows], ids[restricted.rows]
    columns = {
        name: np.array(frame[name].to_list(), dtype=object)
        if name in categorical
        else frame[name].fill_null(float("nan")).to_numpy().astype(np.float64)
        for name in frame.columns[1:]
    }
    return Table(ids, columns, categorical), restricted
