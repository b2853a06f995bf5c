"""The federation folder: real folders load, every kind of bad input is named, no value is ever shown."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprofile.data.folder import load_federation
from fedprofile.data.writing import write_folder
from fedprofile.errors import ConfigError, DataError
from fedprofile.types import MISSING_LABEL, Task

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SECRETS = ("SECRET-123", "987654321")
YAML = """\
name: small
id: cid
label_owner: bank
labels: labels.csv
tasks:
  tier: {kind: ordinal}
  invest: {kind: binary}
parties:
  shop: {table: shop.csv, categorical: [aisle]}
  bank: {table: bank.csv, categorical: [city]}
  tax: {table: tax.csv}
"""
BANK = "cid,balance,age,city\nA1,10,30,北京\nA2,20,,上海\nA3,987654321,50,\nA4,5.5,41,SECRET-123\n"
SHOP = "cid,orders,aisle\nA3,3,x\nA1,1,y\nZ9,2,x\n"
TAX = "cid,income\na2,7\nA4,8\n"
LABELS = "cid,tier,invest\nA4,2,\nA1,0,1\nA2,1,0\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make(tmp_path)


def make(root: Path) -> Path:
    for name, text in (("federation.yaml", YAML), ("bank.csv", BANK), ("shop.csv", SHOP), ("tax.csv", TAX)):
        (root / name).write_text(text, encoding="utf-8")
    (root / "labels.csv").write_text(LABELS, encoding="utf-8")
    return root


def swap(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    assert old in text
    (root / name).write_text(text.replace(old, new), encoding="utf-8")


def test_a_small_folder_is_read_as_written(small: Path) -> None:
    f = load_federation(small)
    assert list(f.tables) == ["bank", "shop", "tax"]
    assert f.tasks == (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
    bank = f.tables["bank"]
    assert bank.ids.tolist() == f.labels.ids.tolist() == ["A1", "A2", "A3", "A4"]
    assert bank.columns["city"].tolist() == ["北京", "上海", None, "SECRET-123"]
    np.testing.assert_array_equal(bank.columns["age"], [30, np.nan, 50, 41])
    assert f.tables["tax"].ids.tolist() == ["A2", "A4"]
    assert f.labels.values["tier"].tolist() == [0, 1, MISSING_LABEL, 2]
    assert f.labels.values["invest"].tolist() == [1, 0, MISSING_LABEL, MISSING_LABEL]
    assert len(f.digest) == 32
    assert not any(s in repr(f) for s in SECRETS)


def text_edits(*edits: tuple[str, str, str]):
    def spoil(root: Path) -> None:
        for name, old, new in edits:
            swap(root, name, old, new)

    return spoil


def cut_gzip(root: Path) -> None:
    data = gzip.compress((SHOP * 50).encode())
    (root / "shop.csv.gz").write_bytes(data[:-9])
    swap(root, "federation.yaml", "shop.csv,", "shop.csv.gz,")


def plain_gzip(root: Path) -> None:
    (root / T).rename(root / "tax.csv.gz")
    swap(root, Y, T, "tax.csv.gz")


def fake_parquet(root: Path) -> None:
    (root / "tax.parquet").write_text(TAX + "SECRET-123,1\n")
    swap(root, "federation.yaml", "tax.csv", "tax.parquet")


def folder_for_table(root: Path) -> None:
    (root / "tax.csv").unlink()
    (root / "tax.csv").mkdir()


def remove(name: str):
    return lambda root: (root / name).unlink()


def write(name: str, data: bytes):
    return lambda root: (root / name).write_bytes(data)


Y, B, S, T, L = "federation.yaml", "bank.csv", "shop.csv", "tax.csv", "labels.csv"
ELEVEN = "\n".join(f"  p{i}: {{table: p.csv}}" for i in range(11))
BAD = {
    "no yaml": (remove(Y), Y, "", None, "missing"),
    "not yaml": (text_edits((Y, "tasks:", "tasks: [")), Y, "", None, "not valid YAML"),
    "yaml is a list": (write(Y, b"- a\n- b\n"), Y, "", None, "mapping"),
    "yaml date": (text_edits((Y, "name: small", "name: 2024-13-45")), Y, "", None, "not valid YAML"),
    "yaml loop": (write(Y, b"&a [*a]\n"), Y, "", None, "not valid YAML"),
    "yaml object": (write(Y, b"!!python/object:os.system {}\n"), Y, "", None, "not valid YAML (line 1)"),
    "yaml empty": (write(Y, b""), Y, "", None, "mapping"),
    "misspelt key": (text_edits((Y, "label_owner", "label_ownr")), Y, "", None, "Did you mean 'label_owner'"),
    "misspelt party key": (
        text_edits((Y, "categorical: [aisle]", "categorial: [aisle]")),
        Y,
        "",
        None,
        "'categorical'",
    ),
    "key twice": (text_edits((Y, "  tax: {table: tax.csv}", "  shop: {table: tax.csv}")), Y, "", None, "twice"),
    "lacks a key": (text_edits((Y, "id: cid\n", "")), Y, "", None, "lacks the key 'id'"),
    "format 2": (text_edits((Y, "name: small", "format: 2\nname: small")), Y, "", None, "`format`"),
    "owner is no party": (text_edits((Y, "label_owner: bank", "label_owner: bnak")), Y, "", None, "'bank'"),
    "unknown party": (
        text_edits((Y, "tasks:", "units: {shopp.orders: pieces}\ntasks:")),
        Y,
        "",
        None,
        "Did you mean 'shop'",
    ),
    "unknown unit column": (
        text_edits((Y, "tasks:", "units: {ordres: pieces}\ntasks:")),
        Y,
        "ordres",
        None,
        "'orders'",
    ),
    "task kind": (text_edits((Y, "kind: binary", "kind: yesno")), Y, "", None, "`kind: binary`"),
    "table outside": (text_edits((Y, "table: tax.csv", "table: ../tax.csv")), Y, "", None, "leads out"),
    "party named yes": (text_edits((Y, "  tax:", "  yes:")), Y, "", None, "no valid name"),
    "one party": (
        text_edits((Y, YAML[YAML.index("  shop") :], "  bank: {table: bank.csv}\n")),
        Y,
        "",
        None,
        "1 parties",
    ),
    "eleven parties": (text_edits((Y, YAML[YAML.index("  shop") :], ELEVEN)), Y, "", None, "11 parties"),
    "missing table": (remove(T), T, "", None, "missing"),
    "not a file": (folder_for_table, T, "", None, "cannot be read"),
    "unknown format": (text_edits((Y, "tax.csv", "tax.xlsx")), "tax.xlsx", "", None, ".parquet"),
    "empty file": (write(T, b""), T, "", None, "empty"),
    "no rows": (write(T, b"cid,income\n"), T, "", 0, "no rows"),
    "no id column": (text_edits((S, "cid,", "cdi,")), S, "cid", None, "Did you mean 'cdi'"),
    "no header": (write(T, b"SECRET-123,7\nA4,8\n"), T, "cid", None, "id column"),
    "missing column": (text_edits((Y, "[aisle]", "[aisles]")), S, "aisles", None, "'aisle'"),
    "missing group": (text_edits((Y, "tasks:", "groups: [sex]\ntasks:")), B, "sex", None, "missing"),
    "no label column": (text_edits((L, "tier", "teir")), L, "tier", None, "'teir'"),
    "column twice": (text_edits((B, "age", "balance")), B, "balance", None, "same name"),
    "column without name": (text_edits((B, "age", "")), B, "", None, "no name"),
    "duplicate ids": (text_edits((B, "A2,", " ａ1,"), (B, "A4,", "a1,")), B, "cid", 2, "duplicate"),
    "missing ids": (text_edits((B, "A2,", " ,")), B, "cid", 1, "ids are missing"),
    "mixed ids": (text_edits((B, "A1,", "1.0,"), (B, "A2,", "2.0,")), B, "cid", 2, "mixed types"),
    "digits and text": (text_edits((B, "A1,", "1,"), (B, "A2,", "2,"), (B, "A3,", "3,")), B, "cid", 1, "mixed types"),
    "fractional ids": (write(T, b"cid,income\n1.5,1\n2.0,3\n"), T, "cid", 1, "fractional"),
    "spreadsheet ids": (write(T, b"cid,income\n1.10E+17,1\n1.2E+17,3\n"), T, "cid", 2, "scientific"),
    "no overlap": (text_edits((S, "A3,", "B3,"), (S, "A1,", "B1,")), S, "", None, "no overlap"),
    "labels of strangers": (text_edits((L, "A4,", "Z9,")), L, "", 1, "not in the label owner's table"),
    "one class": (text_edits((L, "A1,0,1", "A1,0,0")), L, "invest", None, "one class"),
    "no label at all": (text_edits((L, "A1,0,1", "A1,0,"), (L, "A2,1,0", "A2,1,")), L, "invest", None, "no label"),
    "tier from 1": (text_edits((L, "A1,0,", "A1,3,")), L, "tier", None, "start at 0"),
    "tier with a gap": (text_edits((L, "A4,2,", "A4,3,")), L, "tier", None, "gaps"),
    "tier not whole": (text_edits((L, "A4,2,", "A4,1.5,")), L, "tier", 1, "integers from 0"),
    "tier negative": (text_edits((L, "A4,2,", "A4,-1,")), L, "tier", 1, "integers from 0"),
    "tier is text": (text_edits((L, "A4,2,", "A4,SECRET-123,")), L, "tier", 1, "non-numeric"),
    "binary 1 and 2": (text_edits((L, "A1,0,1", "A1,0,987654321")), L, "invest", 1, "0 or 1"),
    "text in numbers": (text_edits((B, "20,", "SECRET-123,"), (B, "5.5,", "12%,")), B, "balance", 2, "categorical"),
    "text column undeclared": (text_edits((Y, ", categorical: [city]", "")), B, "city", 3, "categorical"),
    "Inf": (text_edits((B, "20,", "inf,"), (B, "5.5,", "-Infinity,")), B, "balance", 2, "infinite"),
    "overflow": (text_edits((B, "20,", "1e999,")), B, "balance", 1, "infinite"),
    "ragged": (text_edits((B, "5.5,41,SECRET-123", "5.5,41,SECRET-123,987654321")), B, "", None, "well-formed"),
    "cut off": (text_edits((B, "A4,5.5,41,SECRET-123", "A4,5.5")), B, "", 1, "well-formed"),
    "cut off, quoted": (
        text_edits((B, "北京", '"北\n,京"'), (B, "A4,5.5,41,SECRET-123", "A4,5.5")),
        B,
        "",
        1,
        "well-formed",
    ),
    "open quote": (text_edits((B, "41,SECRET-123", '41,"SECRET-123')), B, "", None, "well-formed"),
    "binary junk": (write(T, bytes(range(256))), T, "", None, "UTF-8"),
    "truncated gzip": (cut_gzip, "shop.csv.gz", "", None, "truncated"),
    "no gzip": (plain_gzip, "tax.csv.gz", "", None, "not gzip"),
    "fake parquet": (fake_parquet, "tax.parquet", "", None, "not Parquet"),
    "nothing left": (text_edits((T, ",7", ",8")), T, "", 2, "no column"),
    "time is no date": (
        text_edits((Y, "tasks:", "time: city\ntasks:"), (Y, ", categorical: [city]", "")),
        B,
        "city",
        3,
        "date",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_no_value_is_shown(case: str, small: Path) -> None:
    spoil, file, column, count, says = BAD[case]
    spoil(small)
    with pytest.raises(DataError) as caught:
        load_federation(small)
    error = caught.value
    assert Path(error.file).name == file
    assert (error.column, error.count) == (column, count)
    assert says in str(error)
    assert error.mend
    assert not any(secret in str(error) for secret in SECRETS)
    # A traceback shows chained errors too, and readers quote cells in theirs.
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def test_folder_and_root_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder is missing"):
        load_federation(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"data\.root"):
        load_federation(None)


def test_useless_columns_and_rows_are_dropped_with_a_warning(small: Path) -> None:
    swap(small, T, TAX, "cid,income,gone,same,half\nA2,7,,1,1\nA4,8,NA,1,\nA1,,nan,,\n")
    # `same` tells the customer without a value apart until that row goes: it stays.
    swap(small, B, BANK, BANK.replace("age", "tier").replace("city\n", "city,flat\n").replace("0,北京", "0,北京,k"))
    swap(small, B, "上海\n", "上海,k\n")
    swap(small, B, "50,\n", "50,,k\n")
    swap(small, B, "SECRET-123\n", "SECRET-123,k\n")
    swap(small, Y, "[city]", "[city, flat]")
    f = load_federation(small)
    assert list(f.tables["tax"].columns) == ["income", "same", "half"]
    assert f.tables["tax"].ids.tolist() == ["A2", "A4"]
    assert list(f.tables["bank"].columns) == ["balance", "tier", "city"]
    said = "\n".join(f.warnings)
    assert "tax.csv, column 'gone': no value is known; dropped" in said
    assert "bank.csv, column 'flat': the same value everywhere; dropped" in said
    assert "tax.csv: 1 customers without any value" in said
    assert "column 'tier': has the name of a task" in said
    assert not any(s in said for s in SECRETS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_encodings(encoding: str, small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in (B, S, L):
        text = (small / name).read_text(encoding="utf-8")
        (small / name).write_bytes(text.replace("\n", "\r\n").encode(encoding))
    (small / Y).write_bytes((YAML + "# 注释\n").encode(encoding))
    plain = make(tmp_path_factory.mktemp("plain"))
    assert load_federation(small).digest == load_federation(plain).digest


def test_dates_weights_groups_and_units(small: Path) -> None:
    swap(
        small, Y, "tasks:", "time: opened\nweight: w\ngroups: [city]\nunits: {shop.orders: pieces, age: years}\ntasks:"
    )
    lines = BANK.splitlines()
    dates = ["opened,w", "1970-01-02,1", "2024-02-29T10:00:00,1", ",1", "1969-12-31,1"]
    (small / B).write_text("\n".join(f"{a},{b}" for a, b in zip(lines, dates, strict=True)), encoding="utf-8")
    f = load_federation(small)
    np.testing.assert_array_equal(f.tables["bank"].columns["opened"], [1, 19782, np.nan, -1])
    assert f.tables["bank"].columns["w"].tolist() == [1, 1, 1, 1]
    assert (f.time, f.weight, f.groups) == ("opened", "w", ("city",))
    assert [w for w in f.warnings if "not used yet" in w] == [
        f"federation.yaml: `{key}` is read but not used yet; its columns stay features"
        for key in ("groups", "time", "weight")
    ]
    assert f.units == {"shop.orders": "pieces", "age": "years"}


def test_parquet_types(small: Path) -> None:
    frame = pl.DataFrame(
        {
            "cid": [1.0, 2.0, 3.0],
            "flag": [True, None, False],
            "level": pl.Series([3, 4, None], dtype=pl.Float32),
            "kind": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "n": pl.Series([1, 2, 3], dtype=pl.UInt8),
        }
    )
    frame.write_parquet(small / "tax.parquet")
    swap(small, Y, "{table: tax.csv}", "{table: tax.parquet, categorical: [level, kind]}")
    for i in "1234":
        for name in (B, S, L):
            (small / name).write_text((small / name).read_text("utf-8").replace(f"A{i},", f"{i},"), "utf-8")
    swap(small, S, "Z9,", "0,")
    tax = load_federation(small).tables["tax"]
    assert tax.ids.tolist() == ["1", "2", "3"]
    assert tax.columns["level"].tolist() == ["3", "4", None]
    assert tax.columns["kind"].tolist() == ["a", "b", "a"]
    np.testing.assert_array_equal(tax.columns["flag"], [1, np.nan, 0])
    frame.with_columns(n=pl.lit([1])).write_parquet(small / "tax.parquet")
    with pytest.raises(DataError, match="column 'n': a column of type List is not numeric"):
        load_federation(small)


cells = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=64))
words = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(cells, min_size=4, max_size=4),
    texts=st.lists(words, min_size=4, max_size=4),
    order=st.permutations(range(4)),
    form=st.sampled_from(["csv", "csv.gz", "parquet"]),
)
def test_any_order_and_format_gives_the_same_digest(
    numbers: list, texts: list, order: list[int], form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = make(tmp_path_factory.mktemp("first"))
    frame = pl.DataFrame(
        {"cid": ["A1", "A2", "A3", "A4"], "x": numbers, "w": texts, "k": [1, 2, 3, 4]},
        schema={"cid": pl.String, "x": pl.Float64, "w": pl.String, "k": pl.Int64},
    )
    swap(root, Y, "bank.csv, categorical: [city]", "bank.parquet, categorical: [w]")
    frame.write_parquet(root / "bank.parquet")
    first = load_federation(root)
    frame[order].write_parquet(root / "bank.parquet")
    shuffled = load_federation(root)
    assert shuffled.digest == first.digest
    again = tmp_path_factory.mktemp("second") / form
    write_folder(shuffled, again, form)
    back = load_federation(again)
    assert back.digest == first.digest
    assert back.tasks == first.tasks


def test_any_change_changes_the_digest(small: Path) -> None:
    seen = {load_federation(small).digest}
    changes = [(B, "5.5", "5.6"), (B, "上海", ""), (L, "A4,2,", "A4,2,1"), (S, "Z9", "Z8"), (B, "balance", "saldo")]
    for name, old, new in changes:
        swap(small, name, old, new)
        seen.add(load_federation(small).digest)
    assert len(seen) == len(changes) + 1


@pytest.mark.parametrize(
    ("name", "rows", "columns", "rates"),
    [
        (
            "scf2019",
            {"bank": 5777, "commerce": 5777, "tax": 5777, "insurer": 5777},
            [48, 32, 18, 9],
            {"tier": [0.3808, 0.3227, 0.2965], "invest": [0.681, 0.319], "lifeins": [0.771, 0.229]},
        ),
        (
            "bank_full",
            {"bank": 45211, "registry": 45211},
            [10, 4],
            {"deposit": [0.883, 0.117], "tier": [0.3514, 0.4605, 0.1881]},
        ),
    ],
)
def test_shared_folders(name: str, rows: dict, columns: list, rates: dict) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"shared/data/{name} is absent")
    f = load_federation(SHARED / name)
    assert {p: len(t) for p, t in f.tables.items()} == rows
    assert [len(t.columns) for t in f.tables.values()] == columns
    assert not f.warnings
    for task, expected in rates.items():
        values = f.labels.values[task]
        np.testing.assert_allclose(
            np.bincount(values) / len(values), expected, atol=6e-5 if len(expected) > 2 else 6e-4
        )
