"""A federation as it was read: every party's table, the labels, and a digest that names the content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.types import Labels, Table, Task, canonical, digest


@dataclass(frozen=True)
class Federation:
    """Several parties' tables and the label owner's labels; checked, ids normalised, no value in its repr.

    tables: party -> Table, the label owner first, the others in the order of the file. labels: aligned to the
    label owner's table (``labels.ids`` equals its ids), MISSING_LABEL where unknown. groups, time, weight: names
    of columns of the label owner's table. units: column, or party.column -> unit. warnings: what was dropped.
    digest: 32 bytes over schema and content, the same for any row order and file format.
    """

    name: str
    id_column: str
    label_owner: str
    tasks: tuple[Task, ...]
    tables: Mapping[str, Table]
    labels: Labels
    groups: tuple[str, ...] = ()
    time: str | None = None
    weight: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    digest: bytes = b""

    @property
    def partners(self) -> tuple[str, ...]:
        """The parties other than the label owner, in the order of the file."""
        return tuple(party for party in self.tables if party != self.label_owner)


def make_federation(
    name: str,
    id_column: str,
    label_owner: str,
    tasks: tuple[Task, ...],
    tables: Mapping[str, Table],
    labels: Labels,
    groups: tuple[str, ...] = (),
    time: str | None = None,
    weight: str | None = None,
    units: Mapping[str, str] | None = None,
    warnings: tuple[str, ...] = (),
) -> Federation:
    """A Federation with its tables in order and its digest computed; the parts must already be checked."""
    ordered = {label_owner: tables[label_owner], **{p: t for p, t in tables.items() if p != label_owner}}
    units = dict(units or {})
    schema = {
        "name": name,
        "id": id_column,
        "label_owner": label_owner,
        "tasks": [[t.name, t.kind, t.classes] for t in tasks],
        "parties": list(ordered),
        "groups": list(groups),
        "time": time,
        "weight": weight,
        "units": units,
    }
    mark = digest(
        "federation/1", canonical(schema), labels_digest(labels, tasks), *(table_digest(t) for t in ordered.values())
    )
    return Federation(name, id_column, label_owner, tasks, ordered, labels, groups, time, weight, units, warnings, mark)


def table_digest(table: Table) -> bytes:
    """SHA-256 over a table's schema and content, rows sorted by id: 32 bytes, independent of row order."""
    order = np.argsort(table.ids, kind="stable")
    schema = table.schema
    parts = [canonical({"numeric": schema.numeric, "categorical": schema.categorical, "order": list(table.columns)})]
    parts.append(_texts(table.ids[order].tolist()))
    for name, values in table.columns.items():
        parts.append(_levels(values[order]) if name in table.categorical else _numbers(values[order]))
    return digest("table/1", *parts)


def labels_digest(labels: Labels, tasks: tuple[Task, ...]) -> bytes:
    """SHA-256 over the labels of ``tasks``, rows sorted by id: 32 bytes."""
    order = np.argsort(labels.ids, kind="stable")
    columns = (labels.values[t.name][order].astype("<i8").tobytes() for t in tasks)
    return digest("labels/1", _texts(labels.ids[order].tolist()), *columns)


def _numbers(values: npt.NDArray[np.float64]) -> bytes:
    # Equal numbers must have equal bytes: one NaN, one zero.
    clean = np.where(np.isnan(values), np.nan, values) + 0.0
    return clean.astype("<f8").tobytes()


def _levels(values: npt.NDArray[Any]) -> bytes:
    levels = sorted({v for v in values if v is not None})
    code = {level: i for i, level in enumerate(levels)}
    codes = np.fromiter((-1 if v is None else code[v] for v in values), dtype="<i4", count=len(values))
    texts = _texts(levels)
    return len(texts).to_bytes(8, "big") + texts + codes.tobytes()


def _texts(values: list[str]) -> bytes:
    return canonical(values)
