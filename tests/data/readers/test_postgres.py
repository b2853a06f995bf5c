"""Against a real PostgreSQL of this machine, started on a socket of its own; skipped by name where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from fedprofile.data.readers.source_file import PostgresSource, Selection, read_raw
from fedprofile.errors import DataError

psycopg = pytest.importorskip("psycopg", reason="PostgreSQL: psycopg is not installed")
MISSING = [tool for tool in ("initdb", "pg_ctl") if shutil.which(tool) is None]
ROOT_WITHOUT_HELP = os.geteuid() == 0 and shutil.which("setpriv") is None
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason="PostgreSQL: initdb and pg_ctl are not on this machine"),
    pytest.mark.skipif(ROOT_WITHOUT_HELP, reason="PostgreSQL refuses to run as root, and setpriv is not here"),
]
NOBODY = 65534
PASSWORD = "reader-password-SECRET"
SETUP = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA emr;
CREATE TYPE emr.sex AS ENUM ('f', 'm');
CREATE TABLE emr.visits (patient uuid DEFAULT gen_random_uuid(), no text PRIMARY KEY, kg numeric(6, 2), age int,
    sex emr.sex, smokes boolean, seen date, changed timestamptz, bmi float8, secret text);
INSERT INTO emr.visits SELECT gen_random_uuid(), 'P' || i, 50 + i / 10.0, i % 90, (CASE WHEN i % 3 = 0 THEN 'm' ELSE 'f' END)::emr.sex, i % 2 = 0, '2026-01-01',
    '2026-10-01 23:30:00-05', i / 7.0, 'SECRET-VALUE' FROM generate_series(1, 25000) i;
INSERT INTO emr.visits (no, kg) VALUES ('P0', 'NaN');
CREATE TABLE emr.odd (no text, tags text[], far date);
INSERT INTO emr.odd VALUES ('P1', '{a}', 'infinity');
CREATE ROLE reader LOGIN PASSWORD '{password}';
GRANT USAGE ON SCHEMA emr TO reader;
GRANT SELECT ON emr.visits, emr.odd TO reader;
CREATE ROLE writer LOGIN PASSWORD '{password}';
GRANT USAGE ON SCHEMA emr TO writer;
GRANT SELECT, UPDATE (kg) ON emr.visits TO writer;
"""


def as_nobody() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """The socket folder of a fresh server, with the tables and roles of SETUP."""
    # Not below pytest's own folder, which nobody but root may enter.
    folder = Path(tempfile.mkdtemp(prefix="fp-pg-", dir="/tmp"))
    try:
        (folder / "pw").write_text("owner-password\n")
        if os.geteuid() == 0:
            for path in (folder, folder / "pw"):
                os.chown(path, NOBODY, NOBODY)
        run(folder, "initdb", "-U", "owner", "-A", "scram-sha-256", "--pwfile", "pw", "--no-sync", "-E", "UTF8")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run(folder, "pg_ctl", "-w", "-s", "-l", str(folder / "log"), "-o", options, "start")
        try:
            with owner(folder) as db:
                db.execute(SETUP.replace("{password}", PASSWORD).encode())
            yield folder
        finally:
            run(folder, "pg_ctl", "-m", "immediate", "-s", "stop")
    finally:
        shutil.rmtree(folder)


def run(folder: Path, tool: str, *words: str) -> None:
    subprocess.run(
        [*as_nobody(), tool, "-D", str(folder / "data"), *words], check=True, cwd=folder, stdout=subprocess.DEVNULL
    )


def owner(folder: Path) -> Any:
    return psycopg.connect(host=str(folder), user="owner", password="owner-password", dbname="postgres")


@pytest.fixture
def source(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A source of this server; the password comes from a passfile, as on a node."""
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:*:{PASSWORD}\n")
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    monkeypatch.delenv("PGPASSWORD", raising=False)

    def make(user: str = "reader", timeout_s: int = 20, **what: str) -> PostgresSource:
        selection = Selection(**what) if what else Selection(table="emr.visits")
        return PostgresSource(str(server), 5432, "postgres", user, "prefer", selection, timeout_s)

    return make


def refused(source: PostgresSource, id_column: str = "no", columns: Any = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read_raw(source, id_column, columns)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def test_a_table_is_read_with_its_types(source) -> None:
    frame = read_raw(source(), "no", ["no", "kg", "age", "sex", "smokes", "seen", "changed", "bmi", "patient"])
    assert len(frame) == 25_001
    first = frame.filter(frame["no"] == "P1").row(0, named=True)
    assert (first["kg"], first["age"], first["sex"], first["smokes"]) == ("50.10", 1, "f", False)
    assert (first["seen"], first["changed"].date()) == (date(2026, 1, 1), date(2026, 10, 2))
    assert first["bmi"] == pytest.approx(1 / 7)
    assert frame.filter(frame["no"] == "P0")["kg"].to_list() == [None]


def test_only_the_columns_that_are_asked_for_leave_the_server(source) -> None:
    assert read_raw(source(), "no", ["no", "kg"]).columns == ["no", "kg"]
    query = "SELECT no, kg * 2 AS kg FROM emr.visits WHERE age > 80"
    assert set(read_raw(source(query=query), "no", ["no", "kg"]).columns) == {"no", "kg"}


def test_a_role_that_could_write_is_refused(source) -> None:
    assert "write to tables" in str(refused(source("writer")))


@pytest.mark.parametrize(
    ("grant", "revoke", "says"),
    [
        ("GRANT pg_write_all_data TO reader", "REVOKE pg_write_all_data FROM reader", "pg_write_all_data"),
        ("GRANT CREATE ON SCHEMA emr TO reader", "REVOKE CREATE ON SCHEMA emr FROM reader", "create in schema emr"),
        ("ALTER ROLE reader CREATEROLE", "ALTER ROLE reader NOCREATEROLE", "create roles"),
        ("ALTER ROLE reader SUPERUSER", "ALTER ROLE reader NOSUPERUSER", "superuser"),
        ("GRANT TRUNCATE ON emr.odd TO reader", "REVOKE TRUNCATE ON emr.odd FROM reader", "write to tables"),
        (
            "GRANT CREATE ON DATABASE postgres TO reader",
            "REVOKE CREATE ON DATABASE postgres FROM reader",
            "create schemas",
        ),
    ],
)
def test_every_power_beyond_reading_is_named(grant: str, revoke: str, says: str, source, server: Path) -> None:
    with owner(server) as db:
        db.execute(grant.encode())
    try:
        assert says in str(refused(source()))
    finally:
        with owner(server) as db:
            db.execute(revoke.encode())
    assert len(read_raw(source(), "no", ["no"])) == 25_001


def test_the_session_itself_can_only_read(source, server: Path) -> None:
    from fedprofile.data.readers.postgres import _connect

    with _connect(source("writer")) as db, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        db.execute("UPDATE emr.visits SET kg = 1")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT no FROM emr.visits) AS a; DELETE FROM emr.visits; SELECT * FROM (SELECT 1",
        "WITH gone AS (DELETE FROM emr.visits RETURNING no) SELECT no FROM gone",
        "SELECT no, secret::int FROM emr.visits",
        "SELECT nothing FROM emr.visits",
    ],
)
def test_a_query_that_writes_or_fails_ends_without_a_cell_in_the_error(query: str, source, server: Path) -> None:
    assert "SQLSTATE" in str(refused(source(query=query)))
    with owner(server) as db:
        assert db.execute("SELECT count(*) FROM emr.visits").fetchone() == (25_001,)


def test_a_slow_query_is_cut(source) -> None:
    assert "longer than 1 s" in str(refused(source(timeout_s=1, query="SELECT 'P1' AS no, pg_sleep(30)::text AS x")))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"table": "emr.nothing"}, "it is not there"),
        ({"table": "nowhere.visits"}, "it is not there"),
        ({"table": "pg_authid"}, "may not read"),
        ({"query": "SELECT no, tags FROM emr.odd"}, "neither number, text, date"),
        ({"query": "SELECT no, far FROM emr.odd"}, "cannot read it"),
        ({"query": "SELECT no FROM emr.visits WHERE age > 1000"}, "no rows"),
    ],
)
def test_what_cannot_be_read_is_named(what: dict[str, str], says: str, source) -> None:
    assert says in str(refused(source(**what)))


def test_a_missing_column_and_a_wrong_password(source, tmp_path: Path) -> None:
    assert "Did you mean 'kg'" in str(refused(source(), "no", ["no", "kgs"]))
    (tmp_path / "pgpass").write_text("*:*:*:*:wrong-SECRET\n")
    assert "no connection" in str(refused(source()))


def test_from_the_database_to_a_snapshot(source, server: Path, tmp_path: Path) -> None:
    import yaml

    from fedprofile.node.intake import freeze, look

    home = tmp_path / "home"
    home.mkdir()
    body = {"missing": 0.5, "grade": 4, "class": "C2"}
    columns = {
        "Kilograms": {"type": "number", "unit": "kg", "range": [0, 3000], **body},
        "Smokes": {"type": "integer", "range": [0, 1], **body},
        "Sex": {"type": "category", "codes": ["Female", "Male"], **body},
        "Updated": {"type": "date", "missing": 1, "max_age_days": 400, "grade": 2, "class": "C1"},
    }
    contract = {"version": 1, "role": "clinic", "purpose": "p", "id": {"name": "no", "pattern": "P[0-9]+"}}
    (home / "contract.yaml").write_text(yaml.safe_dump({**contract, "columns": columns}))
    place = {"host": str(server), "database": "postgres", "user": "reader"}
    (home / "source.yaml").write_text(yaml.safe_dump({"postgres": place, "table": "emr.visits"}))
    mapped = {
        "Kilograms": {"from": "kg"},
        "Smokes": {"from": "smokes"},
        "Sex": {"from": "sex", "codes": {"f": "Female", "m": "Male"}},
        "Updated": {"from": "changed"},
    }
    (home / "map.yaml").write_text(yaml.safe_dump({"id": "no", "columns": mapped}))
    record = freeze(home, look(home, date(2026, 11, 26)))
    assert record["rows"] == {"read": 25_001, "kept": 25_001, "quarantined": 0}
    assert (record["source"], record["quality"]["figure"]) == ("postgres", 1)
    assert "SECRET" not in (home / "intake.json").read_text()
