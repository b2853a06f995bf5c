"""The coordinator's audit log in its folder: who writes it, and what of it is shown to whom.

::

    FOLDER/audit.key       Ed25519 seed, 0600; signs heads of this log and nothing else
    FOLDER/audit.jsonl     the log (``fedprofile.governance.audit_coordinator``); its head in audit.head
    FOLDER/audit.lock      held while a line is written: commands and the ServerApp of a training share the log

A line is on disk before what it tells of goes anywhere. Where it cannot be written, nothing is opened.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import DataError, NodeFailed, ProtocolError, TrainingDiverged
from fedprofile.files import replace_private
from fedprofile.governance.audit import FILE, Event
from fedprofile.governance.audit_coordinator import COORDINATOR, SHOWN, Failed, RosterInForce, Shown, Summed, bound
from fedprofile.governance.audit_log import AuditLog
from fedprofile.governance.chain import START, Head, Record, now_seconds
from fedprofile.secagg.identity import Identity
from fedprofile.types import canonical, digest

KEY, LOCK = "audit.key", "audit.lock"
POINTER = "audit_folder"
"""In a job's folder: the absolute path of the folder whose log its run goes into; without it, into none."""


class CoordinatorLog:
    """The log of one coordinator's folder. ``key`` is public (32 bytes): what members find in the invitation."""

    def __init__(self, folder: Path) -> None:
        """Opens it; one that is not there yet is begun, with a key of its own.

        Raises DataError for a log that was changed or cut, or whose key is missing.
        """
        self._folder = folder
        self._ends, self._seen = [0], dict[str, int]()
        with self._alone():
            identity = _identity(folder)
            self.key = identity.sign_pk
            self._log = AuditLog(folder, COORDINATOR, identity, now_seconds, self._take)
            self._log.refresh()
            if self._log.head == START:
                self._log.write()

    @property
    def head(self) -> Head:
        """The last line that this process knows."""
        return self._log.head

    def write(self, *events: Event, checkpoint: bool = False) -> None:
        """All of the events or none, durable when it returns. Raises DataError or OSError (disk full)."""
        with self._alone():
            self._log.write(*events, checkpoint=checkpoint)

    def refresh(self) -> Head:
        """The last line, whoever wrote it. Raises DataError for a log that was changed, cut or put back."""
        with self._alone():
            self._log.refresh()
        return self._log.head

    def seen(self, party: str) -> int:
        """A line that this party has been shown for certain: it may know later ones. 0 for none."""
        return self._seen.get(party, 0)

    def lines(self, after: int, head: Head) -> tuple[bytes, ...]:
        """The lines behind line ``after``, up to ``head``."""
        first, last = self._ends[min(after, head.seq)], self._ends[head.seq]
        with open(self._folder / FILE, "rb") as file:
            file.seek(first)
            return tuple(file.read(last - first).splitlines(keepends=True))

    def _take(self, head: Head, record: Record) -> None:
        self._ends.append(head.end)
        if record["event"] == Summed.NAME and "shown" in record:
            self._seen |= dict.fromkeys(record["members"], record["shown"])
        elif record["event"] == RosterInForce.NAME:  # who is new in it has been shown no earlier line
            self._seen = dict.fromkeys(record["parties"], head.seq) | self._seen

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with os.fdopen(os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


class RunLog:
    """What one run writes into the log, and shows of it with its rounds; of a run without a log, nothing."""

    def __init__(self, log: CoordinatorLog | None) -> None:
        self._log = log
        self._others, self._head = bytes(32), START

    def write(self, *events: Event) -> None:
        """Durable when it returns. Raises DataError or OSError; then what the events tell of must not go anywhere."""
        if self._log is not None:
            self._log.write(*events)

    def look(self, others: bytes) -> None:
        """Before the requests of one exchange: all are bound to where the log stands now, and to the parties' root."""
        self._others = others
        if self._log is not None:
            self._head = self._log.refresh()

    @property
    def root(self) -> bytes:
        """What the requests' Rounds say (32 bytes)."""
        return self._others if self._log is None else bound(self._others, self._head.hash)

    @property
    def shown(self) -> int | None:
        """The line that whoever answers has been shown; None in a process that has asked for nothing yet."""
        return self._head.seq or None

    def since(self, party: str) -> int:
        """From which line on a party has to be shown the log."""
        return 0 if self._log is None else self._log.seen(party)

    def body(self, since: int) -> dict[str, Any]:
        """The body of such a request."""
        if self._log is None:
            return {}
        return {SHOWN: Shown(self._head, self._others, self._log.lines(since, self._head)).to_json()}


def result_hash(values: Mapping[str, npt.NDArray[np.float64]]) -> str:
    """SHA-256 (hexadecimal) of an opened sum: its segments by name, each with its shape, little-endian float64."""
    parts = []
    for name, value in sorted(values.items()):
        parts += [canonical([name, list(value.shape)]), np.asarray(value, "<f8").tobytes()]
    return digest("opened-sum/1", *parts).hex()


def failed(run: bytes, error: Exception, renewed: bool | None = None) -> Failed:
    """What the log says of an error: its fixed code, or its kind, and the party that it names; never its text."""
    party, t, complaint, code = None, None, None, type(error).__name__
    if isinstance(error, ProtocolError):
        code = error.code
    elif isinstance(error, NodeFailed):
        party, code, complaint = error.node, error.code, error.complaint or None
    elif isinstance(error, TrainingDiverged):
        party, code, t = error.node, "training_diverged", error.t
    return Failed(run.hex(), code, party, t, complaint, renewed)


def _identity(folder: Path) -> Identity:
    file = folder / KEY
    if not file.exists():
        if (folder / FILE).exists():
            mend = (
                "Put it back. If it is lost, keep audit.* elsewhere: a new log needs a new roster (partners/audit.md)."
            )
            raise DataError(KEY, "the key of the audit log is missing", mend)
        replace_private(file, os.urandom(32))
    return Identity.from_seed(file.read_bytes())
