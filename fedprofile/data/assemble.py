"""Checked tables and labels become a Federation: tasks, overlap, units, and the names that must agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedprofile.data.columns import Checked, is_missing, numbers, texts
from fedprofile.data.ids import check_ids
from fedprofile.data.reading import nearest
from fedprofile.errors import DataError
from fedprofile.types import MISSING_LABEL, Labels, Table, Task, TaskKind

if TYPE_CHECKING:
    import polars as pl


def labels_from_frame(
    frame: pl.DataFrame, file: str, id_column: str, kinds: Mapping[str, TaskKind], owner: Table
) -> tuple[Labels, tuple[Task, ...], tuple[str, ...]]:
    """Labels aligned to the label owner's table, the tasks with their classes, and warnings.

    Customers of the owner without a row, and empty cells, get MISSING_LABEL. Raises DataError for a task without a
    column, ids that the owner's table lacks, and labels that do not fit their kind.
    """
    names = [c for c in frame.columns if c != id_column]
    for task in kinds:
        if task not in names:
            mend = nearest(task, names) or "Add the column, or take the task out of federation.yaml."
            raise DataError(file, "a task has no column of labels", mend, column=task)
    ids = check_ids(texts(frame[id_column], file).to_list(), file, id_column)
    rows = positions(ids, owner.ids)
    strangers = int((rows < 0).sum())
    if strangers:
        mend = "Labels belong to customers of the label owner: add them to its table or remove the labels."
        raise DataError(file, "labels of customers not in the label owner's table", mend, count=strangers)
    values, tasks = {}, []
    for name, kind in kinds.items():
        checked, known = check_task(name, kind, numbers(frame[name], file), file)
        tasks.append(checked)
        values[name] = np.full(len(owner), MISSING_LABEL, dtype=np.int64)
        values[name][rows] = known
    warnings = tuple(f"{file}, column {c!r}: no task of that name; ignored" for c in names if c not in kinds)
    return Labels(owner.ids, values), tuple(tasks), warnings


def check_task(
    name: str, kind: TaskKind, values: npt.NDArray[np.float64], file: str
) -> tuple[Task, npt.NDArray[np.int64]]:
    """A Task and its labels (n,), MISSING_LABEL where NaN; DataError if the values do not fit the kind."""
    known = values[~np.isnan(values)]
    top = 1 if kind == "binary" else len(known)
    bad = int(((known != np.floor(known)) | (known < 0) | (known > top)).sum())
    if bad:
        what, mend = {
            "binary": ("labels of a binary task are not 0 or 1", "Write 0 or 1, or leave the cell empty."),
            "ordinal": ("labels of an ordinal task are not integers from 0", "Number the levels 0, 1, 2, …"),
        }[kind]
        raise DataError(file, what, mend, column=name, count=bad)
    levels = np.unique(known)
    if len(levels) < 2:
        mend = "A task needs customers of at least two classes; take it out of `tasks` or add labels."
        raise DataError(file, "the task has one class" if len(levels) else "the task has no label", mend, column=name)
    classes = int(levels[-1]) + 1
    if len(levels) != classes:
        mend = "Number the levels from 0 without gaps."
        what = "ordinal labels do not start at 0, or have gaps"
        raise DataError(file, what, mend, column=name)
    return Task(name, kind, classes), np.where(np.isnan(values), MISSING_LABEL, values).astype(np.int64)


def check_overlap(tables: Mapping[str, Table], files: Mapping[str, str], label_owner: str) -> None:
    """DataError for a partner that shares no customer with the label owner."""
    for party, table in tables.items():
        if party != label_owner and not np.isin(table.ids, tables[label_owner].ids).any():
            mend = "Check that both tables write the same ids the same way."
            raise DataError(files[party], f"no overlap: no customer in common with {label_owner!r}", mend)


def drop_unknown(checked: Checked, file: str) -> Checked:
    """A partner's table without the customers of whom it knows nothing but the id, and a warning with their count."""
    table = checked.table
    known = np.zeros(len(table), dtype=bool)
    for values in table.columns.values():
        known |= ~is_missing(values)
    if known.all():
        return checked
    warning = f"{file}: {int((~known).sum())} customers without any value; left out"
    return Checked(table.take(known), (*checked.warnings, warning), checked.dropped)


def check_units(units: Mapping[str, str], columns: Mapping[str, Collection[str]], file: str) -> None:
    """DataError for a unit of a column that no party (``columns``: party -> names) has; a key is a column, or
    party.column."""
    every = sorted({c for names in columns.values() for c in names})
    for key in units:
        party, dot, column = key.partition(".")
        if key in every:
            continue
        if dot and party not in columns:
            mend = nearest(party, list(columns)) or f"Parties: {', '.join(columns)}."
            raise DataError(file, f"`units` names an unknown party {party!r}", mend)
        if not dot or column not in columns[party]:
            mend = nearest(column or key, every) or "Name a column of some party."
            raise DataError(file, "`units` names a column that no table has", mend, column=key)


def positions(ids: npt.NDArray[np.str_], among: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """For each id its row in ``among``, -1 where it is not there: (len(ids),) int64."""
    row = {i: r for r, i in enumerate(among.tolist())}
    return np.fromiter((row.get(i, -1) for i in ids.tolist()), dtype=np.int64, count=len(ids))
