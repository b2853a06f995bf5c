"""PostgreSQL, as a role that can only read, in a read-only transaction with a time limit.

The password never passes through here: libpq takes it from PGPASSWORD, PGPASSFILE or ~/.pgpass. No message of the
server is passed on, because it may quote a cell; the SQLSTATE is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fedprofile.data.readers.columns import missing_column, pick
from fedprofile.data.readers.source_file import PostgresSource, source_name
from fedprofile.errors import DataError

if TYPE_CHECKING:
    import polars as pl

# Anything by which the role could change the database or leave it, one word each. Temporary tables do not count.
_MAY_WRITE = """
SELECT 'superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL SELECT 'create roles' FROM pg_roles WHERE rolname = current_user AND rolcreaterole
UNION ALL SELECT 'create databases' FROM pg_roles WHERE rolname = current_user AND rolcreatedb
UNION ALL SELECT 'replication' FROM pg_roles WHERE rolname = current_user AND rolreplication
UNION ALL SELECT 'member of ' || rolname FROM pg_roles WHERE rolname IN
    ('pg_write_all_data', 'pg_write_server_files', 'pg_execute_server_program', 'pg_read_server_files')
    AND pg_has_role(current_user, oid, 'MEMBER')
UNION ALL SELECT 'create schemas' WHERE has_database_privilege(current_database(), 'CREATE')
UNION ALL SELECT 'create in schema ' || nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND has_schema_privilege(oid, 'CREATE')
UNION ALL (SELECT 'write to tables' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
         OR has_any_column_privilege(c.oid, 'INSERT, UPDATE')) LIMIT 1)
"""
_BATCH = 10_000


def read_postgres(source: PostgresSource, id_column: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """The named columns (all for None). DataError for a role that could write, a query that fails or takes too long."""
    table = source_name(source)
    try:
        import psycopg
    except ImportError:
        raise DataError(table, "the reader is not installed", "pip install 'fedprofile[postgres]'") from None
    try:
        with _connect(source) as db:
            _refuse_writer(db, table)
            frame = _read(db, source, table, id_column, columns)
    except psycopg.errors.QueryCanceled:
        mend = "Raise `timeout_s` in source.yaml, or read a narrower query."
        raise DataError(table, f"the query took longer than {source.timeout_s} s", mend) from None
    except psycopg.errors.InsufficientPrivilege:
        raise DataError(table, "the role may not read it", "GRANT SELECT on it to the role of source.yaml.") from None
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise DataError(table, "it is not there", "Correct `table` or `query` in source.yaml.") from None
    except psycopg.OperationalError as e:
        what = f"no connection to PostgreSQL{_state(e)}"
        mend = "Check host, port, database, user and sslmode in source.yaml, and the password in ~/.pgpass."
        raise DataError(table, what, mend) from None
    except psycopg.Error as e:
        what = f"PostgreSQL cannot read it{_state(e)}"
        raise DataError(table, what, "Try the query with psql as the same role.") from None
    return pick(frame, table, id_column, None)


def _connect(source: PostgresSource) -> Any:
    import psycopg

    milliseconds = source.timeout_s * 1000
    options = {
        "default_transaction_read_only": "on",
        "statement_timeout": milliseconds,
        "lock_timeout": min(milliseconds, 10_000),
        "idle_in_transaction_session_timeout": milliseconds,
        "timezone": "UTC",
    }
    return psycopg.connect(
        host=source.host,
        port=source.port,
        dbname=source.database,
        user=source.user,
        sslmode=source.sslmode,
        application_name="fedprofile",
        connect_timeout=min(10, max(2, source.timeout_s)),
        options=" ".join(f"-c {k}={v}" for k, v in options.items()),
    )


def _refuse_writer(db: Any, table: str) -> None:
    powers = [row[0] for row in db.execute(_MAY_WRITE).fetchall()]
    if powers:
        mend = "Make a role with SELECT on the one table, and REVOKE CREATE ON SCHEMA public FROM PUBLIC."
        raise DataError(table, f"the role could do more than read ({'; '.join(powers)})", mend)


def _read(db: Any, source: PostgresSource, table: str, id_column: str, columns: Sequence[str] | None) -> pl.DataFrame:
    import polars as pl
    from psycopg import sql

    if source.what.query:
        # In brackets, as a cursor's own query: the server takes no second statement there.
        inner: Any = sql.SQL("({}) AS source").format(sql.SQL(source.what.query))
    else:
        inner = sql.Identifier(*source.what.table.split("."))
    probe = db.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(inner), prepare=True)
    found = [d.name for d in probe.description]
    missing_column(found, table, id_column, columns)
    wanted = list(columns or found)
    names = sql.SQL(", ").join(map(sql.Identifier, wanted))
    batches = [pl.DataFrame(schema=dict.fromkeys(wanted, pl.Null))]
    with db.cursor(name="fedprofile") as cursor:
        cursor.execute(sql.SQL("SELECT {} FROM {}").format(names, inner))
        while rows := cursor.fetchmany(_BATCH):
            columns_ = zip(wanted, zip(*rows, strict=True), strict=True)
            batches.append(pl.DataFrame([_series(name, values, table) for name, values in columns_]))
    return pl.concat(batches, how="vertical_relaxed")


def _series(name: str, values: tuple[Any, ...], table: str) -> pl.Series:
    """A column by the Python types that its SQL type gave; decimals as text, so that no digit is lost on the way."""
    import polars as pl

    kinds = {type(v) for v in values if v is not None}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    if len(kinds) == 1:
        kind = next(iter(kinds))
        plain: dict[type, Any] = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String, date: pl.Date}
        if kind in plain:
            return pl.Series(name, values, dtype=plain[kind])
        if kind in (Decimal, UUID):
            return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)
        if kind is datetime:
            # The session's time zone is UTC.
            naive = [None if v is None else v.replace(tzinfo=None) for v in values]
            return pl.Series(name, naive, dtype=pl.Datetime("us"))
    what = "a column of a type that is neither number, text, date nor truth"
    raise DataError(table, what, "Cast it in `query`, or leave it out.", column=name)


def _state(error: Any) -> str:
    return f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
