"""One log, several writers: a race has one winner, and the storage alone cannot write a line."""

from __future__ import annotations

import multiprocessing as mp
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
import racer
from office import key

from fedprofile.errors import DataError, DeploymentError, FedprofileError, UsageError
from fedprofile.governance.chain import SIGNED_HEAD, START
from fedprofile.governance.heads import FileHeads
from fedprofile.registry.sql_heads import SqlHeads, check_store

REGISTRY = "a" * 64
KINDS = ("file", "sqlite")


def make(kind: str, folder: Path) -> FileHeads | SqlHeads:
    return FileHeads(folder / "log.jsonl") if kind == "file" else SqlHeads(f"sqlite:///{folder / 'log.db'}", REGISTRY)


@pytest.fixture(params=KINDS)
def heads(request, tmp_path):
    made = make(request.param, tmp_path)
    if isinstance(made, SqlHeads):
        made.create()
    return made


def sign(mark: bytes) -> bytes:
    return key("chen").sign(SIGNED_HEAD, mark)


def last(heads):
    return [*heads.lines()][-1][0]


def test_a_swap_moves_the_head_once(heads):
    assert list(heads.lines()) == []
    one = heads.swap(START, {"n": 1}, sign)
    assert heads.swap(START, {"n": 2}, sign) is None
    two = heads.swap(one, {"n": 2}, sign)
    assert [(head.seq, record) for head, record in heads.lines()] == [(1, {"n": 1}), (2, {"n": 2})]
    assert [record for _, record in heads.lines(one)] == [{"n": 2}]
    assert last(heads) == two


def race(heads, processes: int, times: int) -> None:
    spawn = mp.get_context("spawn")
    gate, won = spawn.Barrier(processes), spawn.Queue()
    racers = [spawn.Process(target=racer.climb, args=(heads, gate, times, won)) for _ in range(processes)]
    for one in racers:
        one.start()
    wins = sum(won.get(timeout=300) for _ in racers)
    for one in racers:
        one.join()
        assert one.exitcode == 0
    # every swap that was told it won is a line, and no line is on a head that was not the last
    assert [record["from"] for _, record in heads.lines()] == list(range(wins))


def test_of_racing_writers_each_line_has_one(tmp_path):
    heads = make("sqlite", tmp_path)
    heads.create()
    race(make("sqlite", tmp_path), 2, 10)


@pytest.mark.nightly
def test_a_thousand_lines_of_racing_writers_have_no_gap(heads):
    race(replace(heads), 4, 250)  # a copy without an open connection


def test_several_machines_share_a_real_postgresql(postgres):
    heads = SqlHeads(postgres, REGISTRY)
    heads.create()
    race(SqlHeads(postgres, REGISTRY), 2, 10)
    with pytest.raises(UsageError, match="already"):
        SqlHeads(postgres, REGISTRY).create()
    import psycopg

    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
    query += "AND pid <> pg_backend_pid()"
    with psycopg.connect(postgres, autocommit=True) as db:
        end = time.monotonic() + 20  # a server process ends a moment after its client has closed
        while db.execute(query).fetchone() != (0,):
            assert time.monotonic() < end, "a connection was left open"


@pytest.mark.nightly
def test_a_thousand_lines_on_a_real_postgresql_have_no_gap(postgres):
    heads = SqlHeads(postgres, "c" * 64)
    heads.create()
    race(SqlHeads(postgres, "c" * 64), 8, 125)


@pytest.fixture
def database(tmp_path):
    heads = make("sqlite", tmp_path)
    heads.create()
    head = START
    for n in range(3):
        head = heads.swap(head, {"n": n}, sign)
    return tmp_path / "log.db"


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM fedprofile_lines WHERE seq = 2",
        "DELETE FROM fedprofile_lines WHERE seq = 3",
        "UPDATE fedprofile_lines SET line = replace(line, '\"n\":1', '\"n\":7')",
        "UPDATE fedprofile_heads SET seq = 2",
        "UPDATE fedprofile_heads SET hash = ''",
        "DELETE FROM fedprofile_heads",
        "DROP TABLE fedprofile_lines",
    ],
)
def test_what_was_done_to_the_database_is_found(database, tmp_path, sql):
    with sqlite3.connect(database) as db:
        db.execute(sql)
    db.close()
    with pytest.raises((DataError, DeploymentError)):
        list(make("sqlite", tmp_path).lines())


def test_a_lost_database_is_said_without_its_url(tmp_path):
    heads = SqlHeads(f"sqlite:///{tmp_path / 'SECRET' / 'log.db'}", REGISTRY)
    with pytest.raises(DeploymentError) as caught:
        heads.create()
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in repr(heads)


def test_a_registry_is_made_once_in_a_database(tmp_path):
    make("sqlite", tmp_path).create()
    with pytest.raises(UsageError, match="already"):
        make("sqlite", tmp_path).create()
    other = SqlHeads(f"sqlite:///{tmp_path / 'log.db'}", "b" * 64)
    other.create()
    assert other.swap(START, {"n": 1}, sign)
    assert list(make("sqlite", tmp_path).lines()) == []


@pytest.mark.parametrize("url", ["", "mysql://x", "sqlite:///relative.db", "FILE", "/a/path"])
def test_only_stores_that_hold_a_log(url):
    with pytest.raises(FedprofileError):
        check_store(url)
