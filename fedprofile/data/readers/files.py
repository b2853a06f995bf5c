"""CSV, CSV.gz and Parquet files: size limits before anything is unpacked, and the digest of the file that is meant."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedprofile.data.readers.columns import pick
from fedprofile.data.readers.source_file import FileSource
from fedprofile.data.reading import frame_of, read_bytes
from fedprofile.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def read_file(source: FileSource, id_column: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """The frame of a file; CSV columns are text, Parquet columns keep their types."""
    name = source.path.name
    data = read_bytes(source.path, name)  # once: what was hashed is what is read
    if source.sha256 and hashlib.sha256(data).hexdigest() != source.sha256:
        mend = "Somebody changed or replaced it: find out, then write its new `sha256` into source.yaml."
        raise DataError(name, "the file is not the one that source.yaml names", mend)
    return pick(frame_of(data, name, id_column), name, id_column, columns)
