"""A DuckDB file, opened read only, without access to anything else on the machine or the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from fedprofile.data.readers.columns import missing_column, pick
from fedprofile.data.readers.source_file import DuckSource, source_name
from fedprofile.errors import DataError

if TYPE_CHECKING:
    import polars as pl

_SEALED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}


def read_duckdb(source: DuckSource, id_column: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """The named columns (all for None) with their own types. DataError never quotes the database's message."""
    file, table = source.path.name, source_name(source)
    try:
        import duckdb
    except ImportError:
        raise DataError(file, "the reader is not installed", "pip install 'fedprofile[duckdb]'") from None
    import polars as pl
    import pyarrow as pa

    if not source.path.is_file():
        raise DataError(file, "the file is missing", "Correct `duckdb` in source.yaml.")
    try:
        with duckdb.connect(str(source.path), read_only=True, config=_SEALED) as db:
            inner = f"({source.what.query})" if source.what.query else _quoted(source.what.table)
            found = [d[0] for d in db.execute(f"SELECT * FROM {inner} AS source LIMIT 0").description or ()]  # noqa: S608
            missing_column(found, table, id_column, columns)
            names = ", ".join(_quoted(c, ()) for c in (columns or found))
            frame = pl.from_arrow(db.sql(f"SELECT {names} FROM {inner} AS source").to_arrow_table())  # noqa: S608
    except duckdb.CatalogException:
        raise DataError(file, f"{table} is not there", "Correct `table` or `query` in source.yaml.") from None
    except duckdb.Error as e:
        # The message of the database may quote a cell.
        what = f"DuckDB cannot read {table} ({type(e).__name__})"
        raise DataError(file, what, "Check the file and the query with the duckdb command.") from None
    except (pl.exceptions.PolarsError, pa.ArrowException):
        what = f"{table} has a column of a type that no table of customers needs"
        raise DataError(file, what, "Name columns in map.yaml, or cast it in a `query` of source.yaml.") from None
    return pick(cast(pl.DataFrame, frame), table, id_column, None)


def _quoted(name: str, parts: tuple[str, ...] | None = None) -> str:
    names = name.split(".") if parts is None else [name]
    return ".".join('"' + n.replace('"', '""') + '"' for n in names)
