"""A DuckDB file: read as it is, sealed off from everything else."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from fedprofile.data.readers.source_file import DuckSource, Selection, read_raw
from fedprofile.errors import DataError

duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as db:
        db.execute("""CREATE TABLE visits AS SELECT 'A' || i AS no, i * 1.5 AS spend, DATE '2026-01-01' AS seen,
            i % 2 = 0 AS member, 'SECRET77' AS note FROM range(400) t(i)""")
        db.execute("CREATE TABLE empty AS SELECT * FROM visits WHERE false")
    return path


def read(path: Path, columns: list[str] | None = None, **what: str) -> pl.DataFrame:
    return read_raw(DuckSource(path, Selection(**what)), "no", columns)


def test_a_table_and_a_query_are_read_with_their_types(warehouse: Path) -> None:
    frame = read(warehouse, ["no", "spend", "seen", "member"], table="visits")
    assert frame.columns == ["no", "spend", "seen", "member"]
    assert frame.filter(frame["no"] == "A3").row(0) == ("A3", pytest.approx(4.5), date(2026, 1, 1), False)
    assert len(read(warehouse, table="main.visits")) == 400
    assert len(read(warehouse, ["no"], query="SELECT no FROM visits WHERE spend > 300")) == 199


@pytest.mark.parametrize(
    ("what", "columns", "says"),
    [
        ({"table": "visit"}, None, "visit is not there"),
        ({"table": "visits"}, ["no", "spent"], "Did you mean 'spend'"),
        ({"table": "empty"}, None, "no rows"),
        ({"query": "SELECT * FROM read_text('/etc/hostname')"}, None, "PermissionException"),
        ({"query": "SELECT no, note::INT AS n FROM visits"}, None, "ConversionException"),
        ({"query": "SELECT * FROM visits) AS a; COPY visits TO 'x.csv'; SELECT * FROM (SELECT 1"}, None, "PermissionException"),
        ({"query": "SELECT nothing FROM visits"}, None, "BinderException"),
        ({"query": "SELECT no, INTERVAL 1 MONTH AS since FROM visits"}, None, "of a type that no table"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_without_a_cell(what, columns, says: str, warehouse: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(warehouse, columns, **what)
    assert says in str(caught.value)
    assert "SECRET77" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_file_that_is_missing_or_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the file is missing"):
        read(tmp_path / "w.duckdb", table="visits")
    (tmp_path / "w.duckdb").write_bytes(b"SECRET77" * 999)
    with pytest.raises(DataError, match="DuckDB cannot read visits"):
        read(tmp_path / "w.duckdb", table="visits")


def test_the_file_is_not_touched(warehouse: Path) -> None:
    before = warehouse.read_bytes()
    read(warehouse, table="visits")
    assert warehouse.read_bytes() == before
    assert [p.name for p in warehouse.parent.iterdir()] == ["w.duckdb"]
