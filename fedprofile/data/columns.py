"""From a raw frame to a Table of numpy arrays: ids checked, numbers parsed, useless columns dropped by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedprofile.data.ids import check_ids
from fedprofile.data.reading import nearest
from fedprofile.errors import DataError
from fedprofile.types import Table

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Checked:
    """A table that passed, the warnings about it, and the names of the columns that were dropped."""

    table: Table
    warnings: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def table_from_frame(
    frame: pl.DataFrame,
    file: str,
    id_column: str,
    categorical: Collection[str] = (),
    kept: Collection[str] = (),
    time: str | None = None,
) -> Checked:
    """A checked Table, and what was dropped from it: all-missing and constant columns.

    ``kept`` columns (groups, time, weight) are never dropped. ``time`` may hold ISO dates (days since 1970-01-01).
    Raises DataError for a listed column that is not there, text or infinities in a numeric column, bad ids, and a
    table of which no column is left.
    """
    features = [c for c in frame.columns if c != id_column]
    for name in (*categorical, *kept):
        if name not in features:
            mend = nearest(name, features) or "Correct federation.yaml or add the column."
            raise DataError(file, "the column is missing", mend, column=name)
    ids = check_ids(texts(frame[id_column], file).to_list(), file, id_column)
    columns: dict[str, npt.NDArray[Any]] = {}
    dropped = {}
    for name in features:
        values: npt.NDArray[Any]
        if name in categorical:
            values = np.array(texts(frame[name], file).to_list(), dtype=object)
        else:
            series = days(frame[name], file) if name == time else frame[name]
            values = numbers(series, file)
        reason = None if name in kept else _useless(values)
        if reason is None:
            columns[name] = values
        else:
            dropped[name] = f"{file}, column {name!r}: {reason}; dropped"
    if not columns:
        mend = "Add a column that differs between customers."
        raise DataError(file, "no column besides the id holds information", mend, count=len(frame))
    table = Table(ids, columns, frozenset(c for c in categorical if c in columns))
    return Checked(table, tuple(dropped.values()), tuple(dropped))


def numbers(series: pl.Series, file: str) -> npt.NDArray[np.float64]:
    """A column as (n,) float64, NaN for missing; DataError with the count of cells that are no finite number."""
    import polars as pl

    name, dtype = series.name, series.dtype
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null)):
        what = f"a column of type {dtype.base_type().__name__} is not numeric"
        raise DataError(file, what, "Turn it into a number (an age, days since a date).", column=name)
    parsed = series.cast(pl.Float64, strict=False)
    bad = int((parsed.is_null() & series.is_not_null()).sum())
    if bad:
        mend = "List it under `categorical` of its party, or clean it."
        raise DataError(file, "non-numeric text in a numeric column", mend, column=name, count=bad)
    infinite = int(parsed.is_infinite().sum())
    if infinite:
        raise DataError(file, "infinite numbers", "Leave the cells empty or cap them.", column=name, count=infinite)
    return parsed.fill_null(float("nan")).to_numpy()


def texts(series: pl.Series, file: str) -> pl.Series:
    """A column as text with null for missing; whole numbers lose their decimals, so that 1 and 1.0 are one level."""
    import polars as pl

    if series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object):
        what = f"a column of type {series.dtype.base_type().__name__} is neither text nor numeric"
        raise DataError(file, what, "Leave it out, or split it into plain columns.", column=series.name)
    if series.dtype.is_float():
        series = series.fill_nan(None)
    return series.cast(pl.String).str.replace(r"^(-?\d+)\.0+$", "$1")


def days(series: pl.Series, file: str) -> pl.Series:
    """ISO dates as days since 1970-01-01; a column of numbers is left as it is."""
    import polars as pl

    if series.dtype.is_numeric() or (
        series.dtype == pl.String and series.cast(pl.Float64, strict=False).null_count() == series.null_count()
    ):
        return series
    parsed = series.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False) if series.dtype == pl.String else series
    if parsed.dtype not in (pl.Date, pl.Datetime) or parsed.null_count() > series.null_count():
        bad = parsed.null_count() - series.null_count()
        raise DataError(file, "not a date", "Write dates as YYYY-MM-DD, or numbers.", column=series.name, count=bad)
    return parsed.cast(pl.Date).to_physical()


def is_missing(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which cells of a column of a Table are missing: NaN among numbers, None among texts; (n,) bool."""
    if values.dtype == object:
        return np.fromiter((v is None for v in values), dtype=np.bool_, count=len(values))
    return np.asarray(np.isnan(values), dtype=np.bool_)


def _useless(values: npt.NDArray[Any]) -> str | None:
    missing = is_missing(values)
    known = values[~missing]
    if not len(known):
        return "no value is known"
    # One value and some missing still tells two kinds of customers apart.
    return "the same value everywhere" if not missing.any() and (known == known[0]).all() else None
