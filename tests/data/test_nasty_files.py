"""Files as partners really send them: each ends in a quarantine reason by row, or in one clear error. No cell is shown."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from fedprofile.data.readers.source_file import FileSource, read_raw
from fedprofile.errors import DataError
from fedprofile.node.intake import look

TODAY = date(2026, 11, 26)
SECRET = "SECRET77"
CONTRACT = """\
version: 1
role: shop
purpose: customer tiering and product propensity
id: {name: customer, pattern: "[A-Z][0-9]+"}
columns:
  age: {type: integer, unit: years, range: [0, 120], missing: 0.9, grade: 3, class: C2}
  income: {type: number, unit: CNY, range: [0, 1000000000], missing: 0.9, grade: 3, class: C2}
  city: {type: category, codes: [北京, 上海], missing: 0.9, grade: 2, class: C1}
  note: {type: category, missing: 1, grade: 2, class: C1}
  seen: {type: date, max_age_days: 400, missing: 1, grade: 2, class: C1}
rules: {child_with_income: age < 10 and income > 100}
limits: {quarantined: 1, min_rows: 1, quality: 0}
"""
MAP = """\
id: customer
columns: {age: {from: age}, income: {from: income}, city: {from: city}, note: {from: note}, seen: {from: seen}}
"""
HEAD = "customer,age,income,city,note,seen\n"
GOOD = "A1,30,1000.5,北京,x,2026-11-01\nA2,41,0,上海,y,2026-10-31\n"


def rows(*lines: str) -> bytes:
    return (HEAD + GOOD + "".join(f"{line}\n" for line in lines)).encode()


def row(**cells: str) -> bytes:
    """The good table and one row more, of which some cells are given."""
    known = {"customer": "B7", "age": "50", "income": "7", "city": "北京", "note": "z", "seen": "2026-11-02", **cells}
    return rows(",".join(known.values()))


CELLS: dict[str, tuple[bytes, str, str]] = {
    # name: file, code, column
    "full-width digits": (row(age="３０"), "full_width", "age"),
    "full-width amount": (row(income="１２．５"), "full_width", "income"),
    "Arabic digits": (row(age="٣٠"), "not_a_number", "age"),
    "Chinese numeral": (row(age="三十"), "not_a_number", "age"),
    "superscript": (row(age="²"), "full_width", "age"),
    "thousands": (row(income='"1,234"'), "thousands_separator", "income"),
    "thousands and cents": (row(income='"1,234,567.80"'), "thousands_separator", "income"),
    "thousands by space": (row(income="1 234"), "not_a_number", "income"),
    "decimal comma": (row(income='"1234,5"'), "not_a_number", "income"),
    "currency sign": (row(income="¥1000"), "not_a_number", "income"),
    "percent": (row(income="12%"), "not_a_number", "income"),
    "unit in the cell": (row(income="10万"), "not_a_number", "income"),
    "accountant's minus": (row(income="(12)"), "not_a_number", "income"),
    "typographic minus": (row(income="−5"), "not_a_number", "income"),
    "two numbers": (row(age="30-40"), "not_a_number", "age"),
    "hexadecimal": (row(income="0x1F"), "not_a_number", "income"),
    "underscore": (row(income="1_000"), "not_a_number", "income"),
    "text": (row(age=SECRET), "not_a_number", "age"),
    "truth": (row(age="true"), "not_a_number", "age"),
    "formula": (row(income="=SUM(A1:A9)"), "formula", "income"),
    "formula call": (row(income="@SECRET77()"), "formula", "income"),
    "formula plus": (row(income="+cmd|' /C calc'!A0"), "formula", "income"),
    "spreadsheet error": (row(income="#DIV/0!"), "formula", "income"),
    "spreadsheet reference": (row(age="#REF!"), "formula", "age"),
    "formula in text": (row(note="=HYPERLINK(SECRET77)"), "formula", "note"),
    "overflow": (row(income="1e999"), "infinite", "income"),
    "infinity": (row(income="-Infinity"), "infinite", "income"),
    "a half year": (row(age="30.5"), "not_whole", "age"),
    "negative": (row(age="-1"), "below_range", "age"),
    "nine nine nine": (row(age="999"), "above_range", "age"),
    "too rich": (row(income="1e12"), "above_range", "income"),
    "denormal": (row(age="1e-310"), "not_whole", "age"),
    "unknown code": (row(city="SECRET77"), "unknown_code", "city"),
    "code of another width": (row(city="北京　市"), "unknown_code", "city"),
    "control character": (row(note="a\x07b"), "control_character", "note"),
    "replacement character": (row(note="a\ufffdb"), "control_character", "note"),
    "giant cell": (row(note="S" * 1_000_000), "too_long", "note"),
    "giant quoted cell": (row(note='"' + "S," * 500_000 + '"'), "too_long", "note"),
    "giant number": (row(income="9" * 1_000_000), "too_long", "income"),
    "day first": (row(seen="01/11/2026"), "not_a_date", "seen"),
    "slashes": (row(seen="2026/11/01"), "not_a_date", "seen"),
    "compact date": (row(seen="20261101"), "not_a_date", "seen"),
    "short date": (row(seen="2026-1-1"), "not_a_date", "seen"),
    "Chinese date": (row(seen="2026年11月1日"), "not_a_date", "seen"),
    "serial date": (row(seen="46000"), "not_a_date", "seen"),
    "no such day": (row(seen="2026-02-30"), "not_a_date", "seen"),
    "full-width date": (row(seen="２０２６-11-01"), "not_a_date", "seen"),
    "future": (row(seen="2027-01-01"), "in_future", "seen"),
    "stale": (row(seen="2019-05-05"), "stale", "seen"),
    "zero date": (row(seen="0000-00-00"), "not_a_date", "seen"),
    "id missing": (row(customer=""), "id_missing", "customer"),
    "id of another form": (row(customer="SECRET77X"), "id_format", "customer"),
    "id in scientific notation": (row(customer="1.1E+17"), "id_format", "customer"),
    "giant id": (row(customer="A" + "1" * 5000), "id_too_long", "customer"),
    "id with a formula": (row(customer="=A1"), "id_format", "customer"),
    "impossible": (row(age="5", income="5000"), "impossible", "child_with_income"),
    "whole row twice": (rows("A1,30,1000.5,北京,x,2026-11-01"), "row_duplicate", "customer"),
    "id in another case and width": (rows("ａ１,30,1000.5,北京,x,2026-11-01"), "row_duplicate", "customer"),
}
TWICE = rows("a2,90,5,北京,x,2026-11-01")


def parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def typed(**changed: pl.Series) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "customer": ["A1", "A2", "A3"],
            "age": [30, 41, 50],
            "income": [1.0, 2.0, 3.0],
            "city": ["北京", "上海", "北京"],
            "note": ["x", "y", SECRET],
            "seen": [date(2026, 11, 1)] * 3,
        }
    )
    return frame.with_columns(**changed) if changed else frame


FILES: dict[str, tuple[str, bytes, str]] = {
    # name: file name, content, words of the error ("" where every row is fine)
    "UTF-8 with a mark": ("t.csv", b"\xef\xbb\xbf" + rows(), ""),
    "GB18030": ("t.csv", rows().decode().encode("gb18030"), ""),
    "CRLF": ("t.csv", rows().replace(b"\n", b"\r\n"), ""),
    "gzip": ("t.csv.gz", gzip.compress(rows()), ""),
    "an extra column": ("t.csv", rows().replace(b"\n", b",SECRET77\n"), ""),
    "columns in another order": (
        "t.csv",
        "seen,note,city,income,age,customer\n2026-11-01,x,北京,5,6,A1\n".encode(),
        "",
    ),
    "blank lines": ("t.csv", rows().replace(b"\n", b"\n\n"), ""),
    "spaces around": ("t.csv", rows(" A5 , 30 , 1 , 北京 , x , 2026-11-01 "), ""),
    "Parquet": ("t.parquet", parquet(typed()), ""),
    "Parquet, numbers as text": ("t.parquet", parquet(typed(age=pl.Series(["30", "41", "50"]))), ""),
    "Parquet, date and time": ("t.parquet", parquet(typed(seen=pl.Series([datetime(2026, 11, 1, 23)] * 3))), ""),
    "UTF-16": ("t.csv", rows().decode().encode("utf-16"), "neither UTF-8 nor GB18030"),
    "semicolons": ("t.csv", rows().replace(b",", b";"), "the id column is missing"),
    "renamed column": ("t.csv", rows().replace(b"income", b"incomes"), "the column is missing"),
    "column twice": ("t.csv", rows().replace(b"age", b"income"), "same name"),
    "unclosed quote": ("t.csv", row(note='"SECRET77'), "not a well-formed CSV"),
    "quote in the middle": ("t.csv", row(note='SE"CRET77,"x'), "not a well-formed CSV"),
    "ragged": ("t.csv", rows("A9,1,2,北京,x,2026-11-01,SECRET77"), "not a well-formed CSV"),
    "cut off": ("t.csv", rows("A9,30"), "not a well-formed CSV"),
    "no header, cells twice": ("t.csv", b"A3,9,9,SECRET77,SECRET77,x\n" * 3, "the id column is missing"),
    "empty": ("t.csv", b"", "empty"),
    "header only": ("t.csv", HEAD.encode(), "no rows"),
    "binary": ("t.csv", bytes(range(256)) * 9, "neither UTF-8 nor GB18030"),
    "gzip cut": ("t.csv.gz", gzip.compress(rows() * 99)[:-9], "truncated"),
    "gzip that is none": ("t.csv.gz", rows(), "not gzip"),
    "text called Parquet": ("t.parquet", rows(), "not Parquet"),
    "Parquet cut": ("t.parquet", parquet(typed())[:-20], "not Parquet"),
    "Parquet without footer": ("t.parquet", parquet(typed())[:-8] + b"\xff" * 8, "not Parquet"),
    "Parquet, dates as numbers": ("t.parquet", parquet(typed(seen=pl.Series([1, 2, 3]))), "cannot be of type date"),
    "Parquet, list": ("t.parquet", parquet(typed(age=pl.Series([[1], [2], [3]]))), "cannot be of type integer"),
    "Parquet, bytes": ("t.parquet", parquet(typed(note=pl.Series([b"a", b"b", b"c"]))), "cannot be of type category"),
    "Parquet, date as number": ("t.parquet", parquet(typed(age=pl.Series([TODAY] * 3))), "cannot be of type integer"),
}


@pytest.fixture
def home(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, data: bytes, sha256: str = "") -> Path:
        (tmp_path / "contract.yaml").write_text(CONTRACT, encoding="utf-8")
        (tmp_path / "map.yaml").write_text(MAP, encoding="utf-8")
        kind = "parquet" if name.endswith("parquet") else "csv"
        pin = f"sha256: {sha256}\n" if sha256 else ""
        (tmp_path / "source.yaml").write_text(f"{kind}: {name}\n{pin}")
        (tmp_path / name).write_bytes(data)
        return tmp_path

    return make


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(CELLS) + len(FILES) >= 60


@pytest.mark.parametrize("case", CELLS)
def test_an_ill_written_row_is_quarantined_with_its_reason(case: str, home: Callable[..., Path]) -> None:
    data, code, column = CELLS[case]
    intake = look(home("t.csv", data), TODAY)
    report = intake.to_json()
    assert report["quarantine"] == [{"code": code, "column": column, "rows": 1}]
    assert report["rows"] == {"read": 3, "kept": 2, "quarantined": 1}
    assert sorted(intake.examined.table(intake.contract).ids) == ["A1", "A2"]
    assert SECRET not in json.dumps(report) + repr(intake)


def test_of_different_rows_with_one_id_none_is_kept(home: Callable[..., Path]) -> None:
    intake = look(home("t.csv", TWICE), TODAY)
    assert intake.to_json()["quarantine"] == [{"code": "id_duplicate", "column": "customer", "rows": 2}]
    assert intake.examined.table(intake.contract).ids.tolist() == ["A1"]


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_read_whole_or_refused_in_words(case: str, home: Callable[..., Path]) -> None:
    name, data, words = FILES[case]
    folder = home(name, data)
    if not words:
        assert look(folder, TODAY).examined.kept.all()
        return
    with pytest.raises(DataError, match=words) as caught:
        look(folder, TODAY)
    assert SECRET not in str(caught.value)
    assert caught.value.mend
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_zip_bomb_is_not_unpacked(home: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedprofile.data.reading.MAX_BYTES", 1 << 20)
    with pytest.raises(DataError, match="unpacks to more than"):
        look(home("t.csv.gz", gzip.compress(b"0" * (1 << 21))), TODAY)
    wide = typed().lazy().select(pl.all().repeat_by(100_000).explode()).collect()
    with pytest.raises(DataError, match="unpacks to more than"):
        look(home("t.parquet", parquet(wide)), TODAY)


def test_a_damaged_parquet_file_is_an_error_or_a_table_and_with_its_digest_always_an_error(
    home: Callable[..., Path],
) -> None:
    data, draw = parquet(typed()), random.Random(7)
    whole = hashlib.sha256(data).hexdigest()
    outcomes, said = set(), []
    for attempt in range(120):
        broken = bytearray(data)
        at = draw.randrange(len(data))
        broken[at] ^= draw.randrange(1, 256)
        folder = home("t.parquet", bytes(broken))
        try:
            if attempt % 10:
                read_raw(FileSource(folder / "t.parquet"), "customer", None)
            else:
                look(folder, TODAY)
            outcomes.add("table")
        except DataError as e:
            outcomes.add("error")
            said.append(str(e))
    assert outcomes == {"table", "error"}
    assert SECRET not in "".join(said)
    with pytest.raises(DataError, match=r"not the one that source\.yaml names"):
        look(home("t.parquet", bytes(broken), whole), TODAY)
    assert look(home("t.parquet", data, whole), TODAY).examined.kept.all()
