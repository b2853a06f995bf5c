"""Writes federation folders: one that is in memory, or an example to start from. All of it, or nothing."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedprofile.data.example import example, example_yaml
from fedprofile.data.federation import Federation
from fedprofile.data.spec import FILE
from fedprofile.errors import UsageError
from fedprofile.types import MISSING_LABEL, Table

if TYPE_CHECKING:
    import polars as pl

Form = Literal["csv", "csv.gz", "parquet"]


def write_folder(federation: Federation, root: str | Path, form: Form = "csv.gz") -> None:
    """Writes a federation so that ``load_federation`` gives it back with an equal digest.

    UsageError if ``root`` exists and is not an empty folder.
    """
    import yaml

    text = yaml.safe_dump(_spec(federation, form), sort_keys=False, allow_unicode=True)
    with _new_folder(Path(root)) as folder:
        _write_tables(federation, folder, form)
        (folder / FILE).write_text(text, encoding="utf-8")


def init_folder(root: str | Path, parties: Sequence[str] = ("bank", "ecommerce", "medical", "tax")) -> None:
    """Writes an example folder of invented customers for the named parties (2 to 10), the first the label owner.

    UsageError for bad party names or if ``root`` exists and is not an empty folder.
    """
    federation = example(tuple(parties))
    with _new_folder(Path(root)) as folder:
        _write_tables(federation, folder, "csv")
        (folder / FILE).write_text(example_yaml(federation), encoding="utf-8")


@contextmanager
def _new_folder(root: Path) -> Iterator[Path]:
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise UsageError(f"{root} exists and is not an empty folder", "Name a new folder.")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    except OSError as e:
        raise UsageError(f"{root} cannot be written: {e.strerror}", "Name a folder that you may write.") from None
    try:
        yield part
        part.chmod(0o755)
        part.replace(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _spec(federation: Federation, form: Form) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "format": 1,
        "name": federation.name,
        "id": federation.id_column,
        "label_owner": federation.label_owner,
        "labels": f"labels.{form}",
        "tasks": {t.name: {"kind": t.kind} for t in federation.tasks},
        "parties": {
            party: {"table": f"{party}.{form}", "categorical": list(table.schema.categorical)}
            for party, table in federation.tables.items()
        },
        "groups": list(federation.groups),
        "time": federation.time,
        "weight": federation.weight,
        "units": dict(federation.units),
    }
    return {key: value for key, value in spec.items() if value}


def _write_tables(federation: Federation, folder: Path, form: Form) -> None:
    for party, table in federation.tables.items():
        _write(_frame(table, federation.id_column), folder / f"{party}.{form}", form)
    _write(_labels(federation), folder / f"labels.{form}", form)


def _frame(table: Table, id_column: str) -> pl.DataFrame:
    import polars as pl

    columns = [pl.Series(id_column, table.ids.tolist(), dtype=pl.String)]
    for name, values in table.columns.items():
        if name in table.categorical:
            columns.append(pl.Series(name, values.tolist(), dtype=pl.String))
        else:
            columns.append(pl.Series(name, values, dtype=pl.Float64).fill_nan(None))
    return pl.DataFrame(columns)


def _labels(federation: Federation) -> pl.DataFrame:
    import polars as pl

    labels = federation.labels
    columns = [pl.Series(federation.id_column, labels.ids.tolist(), dtype=pl.String)]
    for task in federation.tasks:
        known = [None if v == MISSING_LABEL else v for v in labels.values[task.name].tolist()]
        columns.append(pl.Series(task.name, known, dtype=pl.Int64))
    return pl.DataFrame(columns)


def _write(frame: pl.DataFrame, path: Path, form: Form) -> None:
    if form == "parquet":
        frame.write_parquet(path)
        return
    text = io.BytesIO()
    frame.write_csv(text)
    # A fixed time stamp: equal tables give equal files.
    path.write_bytes(gzip.compress(text.getvalue(), mtime=0) if form == "csv.gz" else text.getvalue())
