"""The only way from a stored table to rows in memory: through a permit.

A table is a Parquet file. Its sensitive columns may be stored encrypted (``fedprofile.governance.envelope``); then
``NAME.sealed.json`` beside it holds each column's wrapped key. A cell is opened only for a row that a permit allows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import DataError
from fedprofile.governance.envelope import Kind, SealedColumn, Vault
from fedprofile.governance.permits import Permit, Use
from fedprofile.types import Spine, Table, canonical, digest

if TYPE_CHECKING:
    import polars as pl

_ID = "__id__"


def now() -> datetime:
    """The moment at which permits are asked."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Sealing:
    """Which columns are stored encrypted: column name -> grade (JR/T 0171: C3)."""

    vault: Vault
    grades: Mapping[str, str]


def write_table(table: Table, path: Path, sealing: Sealing | None = None) -> None:
    """Store a private table as Parquet; missing values become nulls.

    Raises DataError for a sensitive column that the table does not have.
    """
    import polars as pl

    columns: dict[str, pl.Series] = {_ID: pl.Series(table.ids.tolist(), dtype=pl.Utf8)}
    sealed, snapshot = {}, os.urandom(32)
    for name in sealing.grades if sealing else ():
        if name not in table.columns:
            raise DataError(path.name, "a sensitive column is missing", "Correct the contract.", column=name)
    for name, values in table.columns.items():
        text = name in table.categorical
        if sealing and name in sealing.grades:
            kind: Kind = "text" if text else "number"
            grade = sealing.grades[name]
            sealed[name], cells = sealing.vault.seal(values, kind, name, _bound(snapshot, table.ids), grade)
            columns[name] = pl.Series(cells, dtype=pl.Binary)
        elif text:
            columns[name] = pl.Series(values.tolist(), dtype=pl.Utf8)
        else:
            columns[name] = pl.Series(values, dtype=pl.Float64, nan_to_null=True)
    pl.DataFrame(columns).write_parquet(path)
    if sealed:
        head = {"snapshot": snapshot.hex(), "columns": {name: s.to_json() for name, s in sealed.items()}}
        _beside(path).write_bytes(canonical(head))
    else:
        _beside(path).unlink(missing_ok=True)


def column_names(path: Path) -> list[str]:
    """Of a stored table, without its ids."""
    import polars as pl

    return [name for name in pl.read_parquet_schema(path) if name != _ID]


def table_ids(path: Path) -> npt.NDArray[np.str_]:
    """All ids (n,) of a stored table. Who may be used is for a permit to say; no other column is read."""
    import polars as pl

    return np.array(pl.read_parquet(path, columns=[_ID])[_ID].to_list(), dtype=np.str_)


def read_ids(path: Path, permit: Permit) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Positions (n,) and ids (n,) of the rows that ``permit`` allows to be aligned now; no other column is read."""
    ids = table_ids(path)
    rows = np.flatnonzero(permit.allowed(ids, "alignment", now()))
    return rows, ids[rows]


def read_permitted(
    path: Path,
    categorical: frozenset[str],
    spine: Spine,
    permit: Permit,
    use: Use,
    vault: Vault | None = None,
    columns: tuple[str, ...] | None = None,
) -> tuple[Table, Spine]:
    """The spine's rows that ``permit`` allows for ``use`` now, in spine order, and the spine restricted to them.

    ``columns`` are the only ones that are read, None for all.
    Raises DataError where encrypted columns do not open with ``vault``.
    """
    import polars as pl

    frame = pl.read_parquet(path, columns=None if columns is None else [_ID, *columns])
    ids = np.array(frame[_ID].to_list(), dtype=np.str_)
    allowed = permit.allowed(ids, use, now())[spine.rows]
    restricted = restrict(spine, allowed)
    opened = _open(path, frame, ids, restricted.rows, vault)
    frame, ids = frame[restricted.rows], ids[restricted.rows]
    values = {
        name: opened[name]
        if name in opened
        else np.array(frame[name].to_list(), dtype=object)
        if name in categorical
        else frame[name].fill_null(float("nan")).to_numpy().astype(np.float64)
        for name in frame.columns[1:]
    }
    return Table(ids, values, categorical & set(values)), restricted


def restrict(spine: Spine, kept: npt.NDArray[np.bool_]) -> Spine:
    """The spine with only some of this node's rows: ``kept`` (m,)."""
    return Spine(spine.size, spine.rows[kept], spine.slots[kept], spine.enough[kept], spine.hash)


def _open(
    path: Path, frame: pl.DataFrame, ids: npt.NDArray[np.str_], rows: npt.NDArray[np.int64], vault: Vault | None
) -> dict[str, npt.NDArray[Any]]:
    import polars as pl

    names = [name for name, dtype in frame.schema.items() if dtype == pl.Binary]
    if not names:
        return {}
    if vault is None:
        raise DataError(path.name, "the table has encrypted columns", "Read it through its node's home.")
    try:
        head = json.loads(_beside(path).read_text())
        snapshot = _bound(bytes.fromhex(head["snapshot"]), ids)
        sealed = {name: SealedColumn.from_json(head["columns"][name]) for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        mend = "Store the table again from its source."
        raise DataError(_beside(path).name, "the keys of the encrypted columns are missing or damaged", mend) from None
    return {name: vault.open(sealed[name], frame[name][rows].to_list(), rows, name, snapshot) for name in names}


def _bound(snapshot: bytes, ids: npt.NDArray[np.str_]) -> bytes:
    """Digest of this snapshot and of whose rows stand where, so that a cell is tied to its customer."""
    return digest("snapshot/1", snapshot, *(i.encode() for i in ids.tolist()))


def _beside(path: Path) -> Path:
    return path.with_suffix(".sealed.json")
