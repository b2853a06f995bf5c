"""What a home does about a single customer: the end of a deletion, and a break-glass read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import DataError, UsageError
from fedprofile.governance import break_glass
from fedprofile.governance.audit import BreakGlass
from fedprofile.governance.break_glass import Approval, Request
from fedprofile.governance.deletion import Run, certify
from fedprofile.governance.permits import Use
from fedprofile.governance.subjects import Subjects, pseudonyms
from fedprofile.node.audit import log_of
from fedprofile.node.consent import ledger_of, trained_with, vault_of
from fedprofile.node.home import NodeHome
from fedprofile.node.source import column_names, read_permitted, table_ids
from fedprofile.types import Spine

_TABLE = "table.parquet"


def deletion_certificate(home: NodeHome, subject: Subjects) -> dict[str, Any]:
    """What ``governance.deletion`` says of one person, (1, 2), from this node's own record of its runs."""
    with home.lock():
        ledger = ledger_of(home)
        runs = []
        for note in ledger.noted("trained"):
            subjects = trained_with(home, bytes.fromhex(note["run"]), note["digest"])
            runs.append(Run(note, bool((subjects == subject).all(axis=1).any())))
        return certify(ledger, subject, runs, len(_rows_of(home, subject, ledger.subject_key)) > 0)


def open_in_the_clear(home: NodeHome, made: Request, approvals: Sequence[Approval]) -> dict[str, Any]:
    """The values of the request's columns, after the read has been recorded: column -> value, None where missing.

    Raises UsageError where ``break_glass.spend`` refuses, which is recorded too; DataError for a customer or column
    that the table lacks.
    """
    with home.lock():
        ledger, path = ledger_of(home), home.path / _TABLE
        rows = _rows_of(home, made.subjects, ledger.subject_key)
        if not len(rows):
            raise DataError(path.name, "the customer has no row here")
        lacking = sorted(set(made.columns) - set(column_names(path)))
        if lacking:
            raise DataError(path.name, "no such column", "Make a new request.", column=lacking[0])
        try:
            break_glass.spend(ledger, made, approvals)
        except UsageError:
            ledger.note("break-glass-refused", request=made.hash.hex())
            raise
        head = ledger.head
        log_of(home).write(BreakGlass(made.hash.hex(), made.columns, made.reason, head.hash.hex(), head.seq))
        one = Spine(1, rows, np.zeros(1, np.int64), np.ones(1, np.bool_), bytes(32))
        permit = _OnlySubject(made.subjects, ledger.subject_key)
        categorical = frozenset(home.config.categorical)
        table, _ = read_permitted(path, categorical, one, permit, "own", vault_of(home), made.columns)
    return {name: _shown(values[0]) for name, values in table.columns.items()}


@dataclass(frozen=True)
class _OnlySubject:
    """The permit that two custodians gave: one subject, once."""

    subject: Subjects
    key: bytes

    def allowed(self, subjects: npt.NDArray[np.str_], use: Use, at: datetime) -> npt.NDArray[np.bool_]:
        return _same(pseudonyms(subjects, self.key), self.subject)


def _rows_of(home: NodeHome, subject: Subjects, key: bytes) -> npt.NDArray[np.int64]:
    path: Path = home.path / _TABLE
    if not path.exists():
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(_same(pseudonyms(table_ids(path), key), subject))


def _same(subjects: Subjects, subject: Subjects) -> npt.NDArray[np.bool_]:
    return np.asarray((subjects == subject).all(axis=1), dtype=np.bool_)


def _shown(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
