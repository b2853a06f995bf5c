"""From a file to a raw frame: CSV, CSV.gz and Parquet, with errors that show no content of the file.

Every text cell comes back stripped, with the usual marks of a missing value turned into null.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fedprofile.errors import DataError

if TYPE_CHECKING:
    import polars as pl

MISSING_TEXT = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
FORMATS = (".csv", ".csv.gz", ".parquet")
MAX_BYTES = 4 << 30


def read_frame(root: Path, file: str, id_column: str) -> pl.DataFrame:
    """The table ``file`` of the folder ``root``, all columns, rows in the file's order; ``id_column`` "" if not known.

    CSV columns are text; Parquet columns keep their types. Encodings: UTF-8 (with or without a byte order mark)
    and GB18030. Raises DataError for a missing, unreadable, truncated, malformed or empty file, an id column that
    is not there, columns without a name or with the same name.
    """
    _check_format(file)
    return frame_of(read_bytes(root / file, file), file, id_column)


def frame_of(data: bytes, file: str, id_column: str) -> pl.DataFrame:
    """The same from the bytes of the file that was called ``file``."""
    import polars as pl

    _check_format(file)
    if file.endswith(".parquet"):
        frame = _parquet(data, file)
        header = frame.columns
    else:
        frame = _csv(_decompressed(data, file), file)
        header = ["" if name is None else name for name in frame.row(0)]
        frame = frame.slice(1).filter(~pl.all_horizontal(pl.all().is_null()))
    header = [name.strip() for name in header]
    _check_header(header, file, id_column)
    frame.columns = header
    if not len(frame):
        raise DataError(file, "the table has no rows", "Export it again.", count=0)
    return tidy(frame)


def _check_format(file: str) -> None:
    if not file.endswith(FORMATS):
        raise DataError(file, "the format is not known", f"Use one of {', '.join(FORMATS)}.")


def tidy(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every text cell stripped and marks of a missing value as null."""
    import polars as pl
    import polars.selectors as cs

    frame = frame.with_columns((cs.categorical() | cs.enum()).cast(pl.String))
    text = cs.string().str.strip_chars()
    return frame.with_columns(pl.when(text.is_in(MISSING_TEXT)).then(None).otherwise(text).name.keep())


def read_bytes(path: Path, file: str) -> bytes:
    """The bytes of a file, or DataError naming it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(file, "the file is missing", "Put it into the folder, or correct its name.") from None
    except OSError as e:
        what = f"the file cannot be read: {e.strerror}"
        raise DataError(file, what, "Check that it is a file and that you may read it.") from None


def decode(data: bytes, file: str) -> str:
    """Text of UTF-8 (byte order mark dropped) or GB18030 bytes, or DataError."""
    if b"\0" not in data:
        for encoding in ("utf-8-sig", "gb18030"):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
    raise DataError(file, "the file is neither UTF-8 nor GB18030 text", "Save it as UTF-8.")


def nearest(name: str, names: list[str]) -> str:
    """Words that suggest the valid names closest to ``name``; empty where none is close."""
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def _decompressed(data: bytes, file: str) -> bytes:
    if not file.endswith(".gz"):
        return data
    try:
        # In one read with a bound: a few kilobytes can unpack to more than the machine has.
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_BYTES + 1)
    except EOFError:
        raise DataError(file, "the gzip file is truncated", "Copy or export it again.") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataError(file, "the file is not gzip, or is damaged", "Copy or export it again.") from None
    if len(unpacked) > MAX_BYTES:
        raise _too_large(file)
    return unpacked


def _csv(data: bytes, file: str) -> pl.DataFrame:
    import polars as pl

    text = decode(data, file)
    what = "not a well-formed CSV: rows of different lengths or an open quote"
    mend = "Export it again: comma-separated, cells that hold commas or line breaks in double quotes."
    try:
        # The header is read as a row: the reader would rename doubled names without a word.
        frame = pl.read_csv(io.StringIO(text), has_header=False, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise DataError(file, "the file is empty", "Export it again, with a header and rows.") from None
    except pl.exceptions.PolarsError:
        # The reader's own message quotes cells.
        raise DataError(file, what, mend) from None
    # The reader fills short rows with nulls without a word: what a cut-off file looks like.
    short = _short_rows(text, frame.width)
    if short:
        raise DataError(file, what, mend, count=short)
    return frame


def _short_rows(text: str, width: int) -> int:
    if '"' in text:
        # The module's own limit on a cell is for the whole process, and lower than some exports need.
        csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
        lengths = (len(row) for row in csv.reader(io.StringIO(text, newline="")) if row)
    else:
        lengths = (line.count(",") + 1 for line in text.split("\n") if line.strip())
    return sum(length < width for length in lengths)


def _parquet(data: bytes, file: str) -> pl.DataFrame:
    # By pyarrow: on damaged files polars panics, and a panic is no Exception that anybody would catch.
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True) as stored:
            groups = (stored.metadata.row_group(i) for i in range(stored.metadata.num_row_groups))
            if sum(group.total_byte_size for group in groups) > MAX_BYTES:
                raise _too_large(file)
            table = stored.read()
        table.validate(full=True)
        # Names that are no UTF-8 raise here, where they can be caught.
        table.column_names  # noqa: B018
        return cast("pl.DataFrame", pl.from_arrow(table))
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        raise DataError(file, "the file is not Parquet, or is damaged", "Copy or export it again.") from None


def _too_large(file: str) -> DataError:
    what = f"the table unpacks to more than {MAX_BYTES >> 30} GiB"
    return DataError(file, what, "Export the columns that are needed, or check where the file comes from.")


def _check_header(header: list[str], file: str, id_column: str) -> None:
    if id_column and id_column not in header:
        mend = nearest(id_column, header) or "Check the name of the id, and that the first row names the columns."
        raise DataError(file, "the id column is missing", mend, column=id_column)
    if "" in header:
        mend = "Name it, or leave it out (row numbers are no feature)."
        raise DataError(file, "a column has no name", mend)
    doubled = [name for name, n in Counter(header).items() if n > 1]
    if doubled:
        # Of a table whose id is not known yet, the first row may be one of cells: it is not shown.
        known = doubled[0] if id_column else ""
        raise DataError(file, "two columns have the same name", "Rename or remove one.", column=known)
