"""What a federation holds, in counts and rates only: fit to be printed and logged."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.data.columns import is_missing
from fedprofile.data.federation import Federation
from fedprofile.types import MISSING_LABEL, Table, Task


def describe(federation: Federation) -> dict[str, Any]:
    """A JSON-able description: parties, overlap with the label owner, tasks; no value of any row.

    ``views`` counts the label owner's customers by the number of partners that know them. Shares and rates are in
    [0, 1]; class rates are of the customers whose label is known.
    """
    owner = federation.tables[federation.label_owner]
    known = {p: np.isin(owner.ids, federation.tables[p].ids) for p in federation.partners}
    views = np.sum(list(known.values()), axis=0)
    return {
        "name": federation.name,
        "label_owner": federation.label_owner,
        "parties": {party: _table(table) for party, table in federation.tables.items()},
        "overlap": {p: {"customers": int(k.sum()), "share": _rate(k)} for p, k in known.items()},
        "views": {str(n): int((views == n).sum()) for n in range(len(known) + 1)},
        "tasks": {t.name: _task(t, federation.labels.values[t.name]) for t in federation.tasks},
        "groups": list(federation.groups),
        "time": federation.time,
        "weight": federation.weight,
        "units": dict(federation.units),
        "warnings": list(federation.warnings),
    }


def _table(table: Table) -> dict[str, Any]:
    columns = {name: _column(values, name in table.categorical) for name, values in table.columns.items()}
    return {"rows": len(table), "numeric": len(table.schema.numeric), "categorical": len(table.categorical)} | {
        "missing": round(float(np.mean([c["missing"] for c in columns.values()])), 4),
        "columns": columns,
    }


def _column(values: npt.NDArray[Any], categorical: bool) -> dict[str, Any]:
    missing = is_missing(values)
    if categorical:
        return {"kind": "categorical", "missing": _rate(missing), "levels": len(set(values[~missing]))}
    return {"kind": "numeric", "missing": _rate(missing)}


def _task(task: Task, values: npt.NDArray[np.int64]) -> dict[str, Any]:
    known = values[values != MISSING_LABEL]
    counts = np.bincount(known, minlength=task.classes)
    return {
        "kind": task.kind,
        "classes": task.classes,
        "known": len(known),
        "missing": len(values) - len(known),
        "rates": [round(float(c / len(known)), 4) for c in counts],
    }


def _rate(flags: npt.NDArray[Any]) -> float:
    return round(float(np.mean(flags)), 4)
