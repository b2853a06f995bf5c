"""From the columns of any data frame to a Table and the views beside it, without pandas or polars."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.data.reading import MISSING_TEXT
from fedprofile.errors import DataError
from fedprofile.types import Schema, Table

Array = npt.NDArray[Any]
Column = Sequence[Any] | Array

INPUT = "the input"
WHOLE = re.compile(r"^(-?\d+)\.0+$")


def table_from_columns(columns: Mapping[str, Column], schema: Schema) -> Table:
    """A Table with the columns of ``schema`` from columns of equal length; others are ignored, ids are row numbers.

    None, NaN, pandas' NA and the usual marks of a missing value count as missing. Raises DataError for a column
    that is not there, text or infinities in a numeric column, and columns of different length.
    """
    require_columns(list(columns), schema.columns)
    found: dict[str, Array] = {name: numeric_column(columns[name], name) for name in schema.numeric}
    found |= {name: _texts(columns[name]) for name in schema.categorical}
    lengths = {len(v) for v in found.values()}
    if len(lengths) > 1:
        raise DataError(INPUT, "the columns have different lengths", "Pass the columns of one table.")
    ids = np.array([str(i) for i in range(lengths.pop() if lengths else 0)], dtype=np.str_)
    return Table(ids, {name: found[name] for name in schema.columns}, frozenset(schema.categorical))


def require_columns(present: Sequence[str], needed: Sequence[str], file: str = INPUT) -> None:
    """Raise DataError that names the first needed column that is not there, and how many are missing."""
    missing = [name for name in needed if name not in present]
    if missing:
        mend = "Add it with the name it had in training, empty where unknown."
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(file, f"the column is missing{more}", mend, column=missing[0])


def numeric_column(values: Column, name: str) -> npt.NDArray[np.float64]:
    """(n,) float64 with NaN for missing; DataError with the count of cells that are no finite number."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        array, bad = _parsed(array)
        if bad:
            mend = "Leave the cells empty where the number is unknown."
            raise DataError(INPUT, "non-numeric text in a numeric column", mend, column=name, count=bad)
    array = array.astype(np.float64)
    if infinite := int(np.isinf(array).sum()):
        raise DataError(INPUT, "infinite numbers", "Leave the cells empty or cap them.", column=name, count=infinite)
    return array


def _parsed(values: Array) -> tuple[Array, int]:
    out, bad = np.full(len(values), np.nan), 0
    for i, value in enumerate(values):
        if not _is_missing(value):
            try:
                out[i] = float(value)
            except (TypeError, ValueError):
                bad += 1
    return out, bad


def _texts(values: Column) -> Array:
    # As where tables are read for training: 1 and 1.0 are one level.
    cells = [None if _is_missing(v) else WHOLE.sub(r"\1", str(v).strip()) for v in values]
    return np.array(cells, dtype=object)


def _is_missing(value: Any) -> bool:
    # pandas' NA and NaT answer neither == nor bool(); their type names are all that can be asked without pandas.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return value.strip() in MISSING_TEXT
    return isinstance(value, float | np.floating) and bool(np.isnan(value))
