from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from fedprofile.errors import DataError
from fedprofile.governance.consent_file import COLUMNS, read_consents
from fedprofile.governance.consent_records import FOREVER, Terms

HEAD = ",".join(COLUMNS)
SECRET = "4711"


def read(tmp_path, *rows, head=HEAD):
    (tmp_path / "c.csv").write_text("\n".join([head, *rows]) + "\n")
    return [
        (terms, ids.tolist(), start.tolist(), end.tolist())
        for terms, ids, start, end in read_consents(tmp_path / "c.csv", "tax")
    ]


def second(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp())


def test_rows_are_gathered_by_what_was_signed(tmp_path):
    rows = [
        "c1,grant,tiering,,income; jobs,v1,app,2026-01-01,",
        "C2,grant,tiering,tax,jobs;income,v1,app,2026-01-02,2027-01-01",
        "c1,authorisation,tiering,bank,income,v1,app,2026-01-01T08:30:00+08:00,2026-06-01T00:00:00Z",
        "c3,grant,tiering,,jobs;income,v1,app,2026-01-01 00:00:00-01:00,",
        "c3,grant,tiering,,jobs;income,v1,app,2026-01-01 00:00:00-01:00,",
    ]
    found = {terms: rest for terms, *rest in read(tmp_path, *rows)}
    both = Terms("grant", "tiering", "tax", ("income", "jobs"), "v1", "app")
    named = Terms("authorisation", "tiering", "bank", ("income",), "v1", "app")
    parts = [zip(*rest, strict=True) for terms, *rest in read(tmp_path, *rows) if terms == both]
    assert sorted(signature for part in parts for signature in part) == [
        ("C1", second(2026, 1, 1), FOREVER),
        ("C2", second(2026, 1, 2), second(2027, 1, 1)),
        ("C3", second(2026, 1, 1, 1), FOREVER),
    ]
    assert found[named] == [["C1"], [second(2026, 1, 1, 0, 30)], [second(2026, 6, 1)]]


def test_parquet_keeps_its_dates(tmp_path):
    row = {
        "id": [1, 2], "kind": ["grant"] * 2, "purpose": ["p"] * 2, "recipient": [None] * 2, "data_classes": [None] * 2,
        "text_version": [3, 3], "channel": ["app"] * 2, "valid_from": [datetime(2026, 1, 1)] * 2, "valid_to": [None] * 2,
    }  # fmt: skip
    frame = pl.DataFrame(row)
    frame.write_parquet(tmp_path / "c.parquet")
    ((terms, ids, start, end),) = read_consents(tmp_path / "c.parquet", "tax")
    assert (terms.text, terms.classes, ids.tolist()) == ("3", (), ["1", "2"])
    assert np.unique(start).tolist() == [second(2026, 1, 1)]
    assert np.unique(end).tolist() == [FOREVER]
    frame.with_columns(pl.lit(20260101).alias("valid_from")).write_parquet(tmp_path / "c.parquet")
    with pytest.raises(DataError, match="ISO 8601"):
        list(read_consents(tmp_path / "c.parquet", "tax"))


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (f"{SECRET},consent,p,,,v,app,2026-01-01,", "kind"),
        (f"{SECRET},grant,p,bank,,v,app,2026-01-01,", "recipient"),
        (f"{SECRET},authorisation,p,,,v,app,2026-01-01,", "recipient"),
        (f"{SECRET},grant,,,,v,app,2026-01-01,", "purpose"),
        (f"{SECRET},grant,p,,,,app,2026-01-01,", "text_version"),
        (f"{SECRET},grant,p,,,v,,2026-01-01,", "channel"),
        (f"{SECRET},grant,p,,,v,app,,", "valid_from"),
        (f"{SECRET},grant,p,,,v,app,31.12.{SECRET},", "valid_from"),
        (f"{SECRET},grant,p,,,v,app,2026-01-01T00:00:00,", "valid_from"),
        (f"{SECRET},grant,p,,,v,app,2026-02-30,", "valid_from"),
        (f"{SECRET},grant,p,,,v,app,2026-01-01,2026-01-01", "valid_to"),
        (f"{SECRET},grant,p,,,v,app,2026-01-02,2026-01-01", "valid_to"),
        (",grant,p,,,v,app,2026-01-02,", "id"),
        ("\u200b,grant,p,,,v,app,2026-01-02,", "id"),
    ],
)
def test_a_wrong_cell_names_its_column_and_how_many_never_what_it_says(tmp_path, row, column):
    with pytest.raises(DataError) as error:
        read(tmp_path, "c1,grant,p,,,v,app,2026-01-01,", row)
    assert (error.value.file, error.value.column, error.value.count) == ("c.csv", column, 1)
    assert SECRET not in str(error.value)


def test_a_missing_column_is_named_with_the_one_that_was_meant(tmp_path):
    with pytest.raises(DataError, match=r"'valid_from'.*'validfrom'"):
        read(tmp_path, "c1,grant,p,,,v,app,2026-01-01,", head=HEAD.replace("valid_from", "validfrom"))
