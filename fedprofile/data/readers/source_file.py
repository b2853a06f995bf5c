"""source.yaml, format 1: where the table lies. Never a password.

::

    format: 1
    csv: exports/visits.csv.gz          # or parquet: visits.parquet; relative to the node's home
    sha256: 9f86d0…                     # optional: refuse any other file

    duckdb: warehouse.duckdb
    table: main.visits                  # or query: SELECT … (one SELECT)

    postgres: {host: db.hospital.lan, port: 5432, database: emr, user: fedprofile_reader, sslmode: verify-full}
    table: public.visits                # or query: SELECT … (one SELECT)
    timeout_s: 300
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.data.yaml_file import mapping, read_yaml, text
from fedprofile.errors import DataError

if TYPE_CHECKING:
    import polars as pl

FILE = "source.yaml"
_KINDS = ("csv", "parquet", "duckdb", "postgres")
_PART = r"[^\W\d]\w*"
_TABLE = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")
_SSL = ("disable", "prefer", "require", "verify-ca", "verify-full")
_LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class FileSource:
    """A CSV (.csv, .csv.gz) or Parquet file; ``sha256`` hex of the one that is meant, "" for any."""

    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Selection:
    """What is read of a database: a table, or one SELECT."""

    table: str = ""
    query: str = ""


@dataclass(frozen=True)
class DuckSource:
    """A DuckDB database file."""

    path: Path
    what: Selection


@dataclass(frozen=True)
class PostgresSource:
    """A PostgreSQL database. The password comes from PGPASSWORD, PGPASSFILE or ~/.pgpass, as libpq does it."""

    host: str
    port: int
    database: str
    user: str
    sslmode: str
    what: Selection
    timeout_s: int = 300


TableSource = FileSource | DuckSource | PostgresSource


def read_source(path: Path) -> TableSource:
    """The checked source of a file; relative paths are relative to its folder."""
    return parse_source(read_yaml(path, path.name), path.parent, path.name)


def parse_source(raw: Any, folder: Path, file: str = FILE) -> TableSource:
    """A source of the mapping that the file holds."""
    top = mapping(raw, file, "the file", (), (*_KINDS, "format", "sha256", "table", "query", "timeout_s"))
    if top.get("format", 1) != 1 or isinstance(top.get("format"), bool):
        raise DataError(file, "`format` is not 1", "Write `format: 1`; this version reads no other.")
    kinds = [k for k in _KINDS if k in top]
    if len(kinds) != 1:
        raise DataError(file, f"{len(kinds)} sources", f"Name one of {', '.join(_KINDS)}.")
    kind = kinds[0]
    fits = {"csv": {"sha256"}, "parquet": {"sha256"}, "duckdb": {"table", "query"}}
    for key in ("sha256", "table", "query", "timeout_s"):
        if key in top and key not in fits.get(kind, {"table", "query", "timeout_s"}):
            raise DataError(file, f"`{key}` does not go with {kind}", "Take it out.")
    if kind in ("csv", "parquet"):
        path, endings = folder / text(top[kind], file, kind), {"csv": (".csv", ".csv.gz"), "parquet": (".parquet",)}
        if not path.name.endswith(endings[kind]):
            raise DataError(file, f"`{kind}` names a file of another kind", f"It ends in {' or '.join(endings[kind])}.")
        return FileSource(path, _sha256(top.get("sha256"), file))
    what = _selection(top, file)
    if kind == "duckdb":
        return DuckSource(folder / text(top[kind], file, kind), what)
    return _postgres(top, what, file)


def read_raw(source: TableSource, id_column: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """The named columns of the source (all of them for None), as they are written; DataError says what is wrong."""
    if isinstance(source, FileSource):
        from fedprofile.data.readers.files import read_file

        return read_file(source, id_column, columns)
    if isinstance(source, DuckSource):
        from fedprofile.data.readers.duck import read_duckdb

        return read_duckdb(source, id_column, columns)
    from fedprofile.data.readers.postgres import read_postgres

    return read_postgres(source, id_column, columns)


def source_name(source: TableSource) -> str:
    """How errors name the source: a file or table name, nothing of a connection."""
    if isinstance(source, FileSource):
        return source.path.name
    return source.what.table or "the query of source.yaml"


def _sha256(value: Any, file: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise DataError(file, "`sha256` is not 64 hexadecimal digits", "Take what `sha256sum FILE` prints.")
    return value


def _selection(top: dict[str, Any], file: str) -> Selection:
    if ("table" in top) == ("query" in top):
        raise DataError(file, "name either `table` or `query`", "A table is schema.name; a query is one SELECT.")
    if "table" in top:
        table = text(top["table"], file, "table")
        if not _TABLE.fullmatch(table):
            raise DataError(file, "`table` is no name of a table", "Write schema.name; use `query` for other names.")
        return Selection(table=table)
    query = str(top["query"]).strip()
    if not re.match(r"(?i)(?:select|with)\b", query) or ";" in query:
        raise DataError(file, "`query` is not one SELECT", "Write SELECT … without a semicolon.")
    return Selection(query=query)


def _postgres(top: dict[str, Any], what: Selection, file: str) -> PostgresSource:
    if isinstance(top["postgres"], dict) and "password" in top["postgres"]:
        mend = "Put it into ~/.pgpass (0600) or PGPASSWORD of the node's process; change it, it was in a file."
        raise DataError(file, "a password does not belong into this file", mend)
    entry = mapping(top["postgres"], file, "`postgres`", ("database", "user"), ("host", "port", "sslmode"))
    host = text(entry["host"], file, "postgres.host") if "host" in entry else ""
    near = host in _LOCAL or host.startswith("/")
    sslmode = entry.get("sslmode", "prefer" if near else "verify-full")
    if sslmode not in _SSL:
        raise DataError(file, "unknown `sslmode`", f"Use one of {', '.join(_SSL)}.")
    if not near and sslmode in ("disable", "prefer"):
        raise DataError(file, "rows would cross the network in clear", "Set `sslmode: verify-full`, or require.")
    port, seconds = entry.get("port", 5432), top.get("timeout_s", 300)
    for key, value, top_value in (("port", port, 65535), ("timeout_s", seconds, 86400)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= top_value:
            raise DataError(file, f"`{key}` is not a whole number from 1 to {top_value}", "Correct it.")
    database, user = (text(entry[k], file, f"postgres.{k}") for k in ("database", "user"))
    return PostgresSource(host, port, database, user, sslmode, what, seconds)
