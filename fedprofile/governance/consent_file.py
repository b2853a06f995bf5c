"""Consents from a CSV or Parquet export, one row a signature, into what the ledger takes.

Columns: ``id``, ``kind`` (grant or authorisation), ``purpose``, ``recipient`` (empty on a grant: the holder),
``data_classes`` (separated by ``;``), ``text_version``, ``channel``, ``valid_from``, ``valid_to`` (the first moment at
which it holds no more; empty: open). Moments are ISO 8601 with an offset; a bare date is its midnight in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedprofile.data.ids import normalise_ids
from fedprofile.data.reading import nearest, read_frame
from fedprofile.errors import DataError
from fedprofile.governance.consent_records import FOREVER, KINDS, Seconds, Terms

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "id", "kind", "purpose", "recipient", "data_classes", "text_version", "channel", "valid_from", "valid_to",
)  # fmt: skip
_OPTIONAL = ("recipient", "data_classes", "valid_to")
_TERMS = ("kind", "purpose", "recipient", "data_classes", "text_version", "channel")


def read_consents(path: Path, holder: str) -> Iterator[tuple[Terms, npt.NDArray[np.str_], Seconds, Seconds]]:
    """For each set of terms: who signed them, normalised ids (n,), from when and until when (n,) in UTC seconds.

    Raises DataError naming file, column and count before anything is yielded; values are never told.
    """
    import polars as pl

    file = path.name
    frame = read_frame(path.parent, file, "id")
    for name in COLUMNS:
        if name not in frame.columns:
            raise DataError(file, "a column is missing", nearest(name, frame.columns), column=name)
    frame = frame.select(COLUMNS).with_columns(
        _moments(frame["valid_from"], file), _moments(frame["valid_to"], file), pl.col("id", *_TERMS).cast(pl.String)
    )
    for name in COLUMNS:
        if name not in _OPTIONAL and (empty := frame[name].null_count()):
            raise DataError(file, "cells are empty", "Fill them in.", column=name, count=empty)
    frame = frame.with_columns(
        pl.when(pl.col("kind") == "grant").then(pl.col("recipient").fill_null(holder)).otherwise(pl.col("recipient")),
        pl.col("valid_to").fill_null(FOREVER),
        pl.col("data_classes").fill_null(""),
    )
    _refuse(frame, ~pl.col("kind").is_in(KINDS), file, "kind", "neither 'grant' nor 'authorisation'")
    _refuse(frame, pl.col("recipient").is_null(), file, "recipient", "an authorisation names who receives")
    own = (pl.col("kind") == "grant") & (pl.col("recipient") != holder)
    _refuse(frame, own, file, "recipient", f"a grant is to the holder, {holder!r}; use 'authorisation' for others")
    _refuse(frame, pl.col("valid_to") <= pl.col("valid_from"), file, "valid_to", "not later than valid_from")
    ids = normalise_ids(frame["id"].to_list())
    if (blank := int((ids == "").sum())) > 0:
        raise DataError(file, "cells are empty", "Fill them in.", column="id", count=blank)
    parts = frame.with_row_index("row").partition_by(*_TERMS, as_dict=True, maintain_order=True)
    for key, part in parts.items():
        kind, purpose, recipient, classes, text, channel = (str(k) for k in key)
        names = tuple(sorted({c.strip() for c in classes.split(";")} - {""}))
        terms = Terms("grant" if kind == "grant" else "authorisation", purpose, recipient, names, text, channel)
        once = part.unique(["id", "valid_from", "valid_to"], maintain_order=True)
        yield terms, ids[once["row"].to_numpy()], once["valid_from"].to_numpy(), once["valid_to"].to_numpy()


def _moments(column: pl.Series, file: str) -> pl.Series:
    """UTC seconds; null where the cell is empty."""
    import polars as pl

    name, dtype = column.name, column.dtype
    if dtype == pl.Null:
        return pl.Series(name, [None] * len(column), dtype=pl.Int64)
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return (column.cast(pl.Datetime("us")).dt.epoch("us") // 1_000_000).alias(name)
    if dtype != pl.String:
        raise DataError(file, "neither a date nor a moment", "Write ISO 8601, e.g. 2026-01-31.", column=name)
    text = column.str.replace(" ", "T", literal=True).str.replace("Z$", "+00:00")
    whole = text.str.len_chars() == 10
    full = (
        pl.select(pl.when(whole).then(text + "T00:00:00+00:00").otherwise(text))
        .to_series()
        .str.to_datetime("%Y-%m-%dT%H:%M:%S%z", strict=False, time_unit="us")
    )
    if bad := full.null_count() - column.null_count():
        mend = "Write ISO 8601 with an offset, e.g. 2026-01-31 or 2026-01-31T09:00:00+08:00."
        raise DataError(file, "neither a date nor a moment with an offset", mend, column=name, count=bad)
    return (full.dt.epoch("us") // 1_000_000).alias(name)


def _refuse(frame: pl.DataFrame, wrong: pl.Expr, file: str, column: str, what: str) -> None:
    if count := frame.select(wrong.fill_null(False).sum()).item():
        raise DataError(file, what, "Correct the export.", column=column, count=count)
