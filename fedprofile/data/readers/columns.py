"""What every reader does with the columns it found: only those that are asked for, each there, rows to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedprofile.data.reading import nearest, tidy
from fedprofile.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def pick(frame: pl.DataFrame, file: str, id_column: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """The frame restricted to the named columns, texts tidied; DataError for a column that is not there."""
    missing_column(frame.columns, file, id_column, columns)
    if not len(frame):
        raise DataError(file, "the table has no rows", "Export it again, or check the query.", count=0)
    return tidy(frame if columns is None else frame[list(columns)])


def missing_column(found: list[str], file: str, id_column: str, columns: Sequence[str] | None) -> None:
    """DataError for the first column that is asked for and not there."""
    for column in (id_column, *(columns or ())):
        if column and column not in found:
            mend = nearest(column, found) or "Correct map.yaml, or add the column."
            raise DataError(file, "the column is missing", mend, column=column)
