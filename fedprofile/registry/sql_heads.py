"""A promotion log in a database that several machines share: one conditional UPDATE decides every race.

SQLAlchemy (it comes with MLflow) speaks SQLite and PostgreSQL; a ``postgresql://`` URL uses psycopg 3. The database is
trusted with nothing but storage: lines are linked and signed as in a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fedprofile.errors import DeploymentError, UsageError
from fedprofile.governance.chain import START, Head, Record, Sign, follow, link
from fedprofile.governance.heads import LOG

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

SCHEMES = ("sqlite", "postgresql")
_WAIT_S = 60
_TABLES = (
    "CREATE TABLE IF NOT EXISTS fedprofile_heads (registry VARCHAR(64) PRIMARY KEY, seq INTEGER NOT NULL, "
    "hash VARCHAR(64) NOT NULL, signature VARCHAR(128) NOT NULL, bytes BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS fedprofile_lines (registry VARCHAR(64), seq INTEGER, line TEXT NOT NULL, "
    "PRIMARY KEY (registry, seq))",
)


@dataclass(frozen=True)
class SqlHeads:
    """The log of one ``registry`` (hex root key) at ``url``, which may hold a password and is never shown."""

    url: str = field(repr=False)
    registry: str

    def create(self) -> None:
        """Make the tables, if they are not there, and an empty log. Raises UsageError where the log exists."""
        with self._transaction() as db:
            for table in _TABLES:
                _run(db, table)
            query = "SELECT seq FROM fedprofile_heads WHERE registry = :registry"
            if _run(db, query, registry=self.registry).first():
                raise UsageError(
                    "this registry is in that database already", "Join it, or make one with a new root key."
                )
            insert = "INSERT INTO fedprofile_heads VALUES (:registry, :seq, :hash, :sig, :end)"
            _run(db, insert, registry=self.registry, **START.to_json())

    def lines(self, after: Head = START) -> Iterator[tuple[Head, Record]]:
        where = "fedprofile_lines"
        with self._transaction() as db:
            query = "SELECT seq, hash, signature, bytes FROM fedprofile_heads WHERE registry = :registry"
            row = _run(db, query, registry=self.registry).first()
            if row is None:
                raise DeploymentError("this registry is not in that database", "Check store in registry.json.")
            query = "SELECT line FROM fedprofile_lines WHERE registry = :registry AND seq > :after AND seq <= :seq "
            query += "ORDER BY seq"
            found = _run(db, query, registry=self.registry, after=after.seq, seq=row.seq).scalars().all()
        head, out = after, list[tuple[Head, Record]]()
        for line in found:
            head, record = follow(LOG, head, line.encode(), where)
            out.append((head, record))
        if head != Head(row.seq, bytes.fromhex(row.hash), bytes.fromhex(row.signature), row.bytes):
            raise DeploymentError("lines of the log were cut or changed", "Restore the database from its backup.")
        yield from out

    def swap(self, old: Head, record: Record, sign: Sign) -> Head | None:
        line, head = link(LOG, old, (record,), sign)
        move = "UPDATE fedprofile_heads SET seq = :seq, hash = :hash, signature = :sig, bytes = :end "
        move += "WHERE registry = :registry AND seq = :old_seq AND hash = :old_hash"
        before = {"old_seq": old.seq, "old_hash": old.hash.hex()}
        with self._transaction() as db:
            if _run(db, move, registry=self.registry, **head.to_json(), **before).rowcount != 1:
                return None
            insert = "INSERT INTO fedprofile_lines VALUES (:registry, :seq, :line)"
            _run(db, insert, registry=self.registry, seq=head.seq, line=line.decode())
        return head

    @cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.pool import NullPool

        url = make_url(self.url)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        waits = {"timeout": _WAIT_S} if url.drivername.startswith("sqlite") else {"connect_timeout": 10}
        # A command makes a few transactions: a pool would only leave connections that nothing closes.
        return create_engine(url, connect_args=waits, poolclass=NullPool)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.begin() as db:
                yield db
        except ImportError as error:
            raise UsageError("the driver of this database is not installed", f"pip install {error.name}.") from None
        except SQLAlchemyError as error:
            # Its text repeats the statement and its values.
            kind = type(error).__name__
            raise DeploymentError(
                f"the head store does not answer ({kind}): what was asked for is not done, unless a look shows it",
                "Check the database, then `fedprofile registry status`.",
            ) from None


def check_store(url: str) -> str:
    """``file`` or a URL that can hold a log. Raises UsageError; the URL, which may hold a password, is not repeated."""
    scheme = url.partition(":")[0]
    if url != "file" and scheme not in SCHEMES:
        raise UsageError("--store names no store", f"Use file, or a URL with {' or '.join(SCHEMES)}.")
    if scheme == "sqlite" and not url.startswith("sqlite:////"):
        raise UsageError(
            "--store: an SQLite store needs an absolute path", "Write sqlite:////absolute/path/registry.db."
        )
    return url


def _run(db: Connection, sql: str, **values: Any) -> Any:
    from sqlalchemy import text

    return db.execute(text(sql), values)
