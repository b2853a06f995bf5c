"""source.yaml: one source, its own keys, no password, no rows in clear across a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedprofile.data.readers.source_file import (
    DuckSource,
    FileSource,
    PostgresSource,
    Selection,
    parse_source,
    read_source,
    source_name,
)
from fedprofile.errors import DataError

HOME = Path("/home/of/node")
PG = {"database": "emr", "user": "reader"}


@pytest.mark.parametrize(
    ("raw", "source"),
    [
        ({"csv": "a/t.csv.gz"}, FileSource(HOME / "a/t.csv.gz")),
        ({"parquet": "/srv/t.parquet", "sha256": "0" * 64}, FileSource(Path("/srv/t.parquet"), "0" * 64)),
        ({"duckdb": "w.duckdb", "table": "main.t"}, DuckSource(HOME / "w.duckdb", Selection("main.t"))),
        ({"duckdb": "w.duckdb", "query": "select 1 as a"}, DuckSource(HOME / "w.duckdb", Selection("", "select 1 as a"))),
        (
            {"postgres": PG, "table": "emr.t", "timeout_s": 9},
            PostgresSource("", 5432, "emr", "reader", "prefer", Selection("emr.t"), 9),
        ),
        (
            {"postgres": {**PG, "host": "db.lan", "port": 6432}, "query": "WITH a AS (SELECT 1) SELECT * FROM a"},
            PostgresSource("db.lan", 6432, "emr", "reader", "verify-full",
                           Selection("", "WITH a AS (SELECT 1) SELECT * FROM a")),
        ),
    ],
)  # fmt: skip
def test_a_source_is_read_as_written(raw: dict[str, Any], source: Any) -> None:
    assert parse_source({"format": 1, **raw}, HOME) == source


BAD = {
    "none": ({}, "0 sources"),
    "two": ({"csv": "a.csv", "parquet": "a.parquet"}, "2 sources"),
    "misspelt": ({"cvs": "a.csv"}, "Did you mean 'csv'"),
    "format": ({"format": 2, "csv": "a.csv"}, "`format` is not 1"),
    "ending": ({"csv": "a.xlsx"}, "ends in .csv or .csv.gz"),
    "digest": ({"csv": "a.csv", "sha256": "12"}, "64 hexadecimal digits"),
    "table of a file": ({"csv": "a.csv", "table": "t"}, "does not go with csv"),
    "time of a file": ({"duckdb": "a.duckdb", "table": "t", "timeout_s": 3}, "does not go with duckdb"),
    "neither": ({"duckdb": "a.duckdb"}, "either `table` or `query`"),
    "both": ({"duckdb": "a.duckdb", "table": "t", "query": "select 1"}, "either `table` or `query`"),
    "table with more": ({"duckdb": "a.duckdb", "table": "t; DROP TABLE t"}, "no name of a table"),
    "query that writes": ({"duckdb": "a.duckdb", "query": "DELETE FROM t"}, "not one SELECT"),
    "two queries": ({"duckdb": "a.duckdb", "query": "SELECT 1; DROP TABLE t"}, "not one SELECT"),
    "password": ({"postgres": {**PG, "password": "SECRET77"}, "table": "t"}, "a password does not belong"),
    "no user": ({"postgres": {"database": "emr"}, "table": "t"}, "lacks the key 'user'"),
    "port": ({"postgres": {**PG, "port": 0}, "table": "t"}, "`port` is not"),
    "timeout": ({"postgres": PG, "table": "t", "timeout_s": True}, "`timeout_s` is not"),
    "sslmode": ({"postgres": {**PG, "sslmode": "off"}, "table": "t"}, "unknown `sslmode`"),
    "in clear": ({"postgres": {**PG, "host": "db.lan", "sslmode": "prefer"}, "table": "t"}, "in clear"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str) -> None:
    raw, says = BAD[case]
    with pytest.raises(DataError) as caught:
        parse_source(raw, HOME)
    assert says in str(caught.value)
    assert "SECRET77" not in str(caught.value)
    assert caught.value.mend


def test_a_relative_path_is_relative_to_the_home(tmp_path: Path) -> None:
    (tmp_path / "source.yaml").write_text("csv: t.csv\n")
    source = read_source(tmp_path / "source.yaml")
    assert source == FileSource(tmp_path / "t.csv")
    assert source_name(source) == "t.csv"
    assert source_name(parse_source({"postgres": PG, "query": "SELECT 1"}, HOME)) == "the query of source.yaml"
