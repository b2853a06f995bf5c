"""One party's audit log: a signed chain of events (``audit.jsonl``) with Merkle checkpoints.

Every ``EVERY`` lines, and at the end of a run, a line states the Merkle root over all lines before it, so that one line
is proved to whoever holds that checkpoint with a few hashes (``fedprofile.governance.merkle.prove``).

A reader takes in only what was appended since it last looked. What it knows never shrinks: a log that is shorter, or
another one, than this process has seen was put back, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedprofile.errors import DataError
from fedprofile.governance.audit import FILE, Begun, Checkpoint, Event, chain_name
from fedprofile.governance.chain import SIGNED_HEAD, START, Chain, Head, Record
from fedprofile.governance.merkle import Tree
from fedprofile.secagg.identity import Identity

EVERY = 256
NEVER_BACK = "Put the newest copy of it back; what has run since is never restored from a backup (partners/audit.md)."


@dataclass
class AuditLog:
    """The log of ``party`` in ``folder``. The caller holds the home's lock while it writes.

    ``clock`` gives UTC seconds since 1970; None where two equal runs must write equal logs (a simulation): its lines
    have no time. ``each`` is told of every line once, in order.
    """

    folder: Path
    party: str
    identity: Identity = field(repr=False)
    clock: Callable[[], int] | None
    each: Callable[[Head, Record], None] = lambda _head, _record: None
    head: Head = START
    _tree: Tree = field(default_factory=Tree, repr=False)
    _latest: int = 0

    @property
    def path(self) -> Path:
        return self.folder / FILE

    @property
    def chain(self) -> Chain:
        return Chain(self.path, chain_name(self.party), lambda mark: self.identity.sign(SIGNED_HEAD, mark))

    def refresh(self) -> None:
        """Take in what was appended. Raises DataError for a log that was changed, cut or put back, or is another's."""
        pinned = self.chain.pinned()
        if pinned.seq < self.head.seq or (pinned.seq == self.head.seq and pinned != self.head):
            what = f"the log was put back: it ends at line {pinned.seq}, and line {self.head.seq} was there already"
            raise DataError(FILE, what, NEVER_BACK)
        fresh = list(self.chain.lines(self.head))
        if fresh:
            self.chain.check_signature(fresh[-1][0], self.identity.sign_pk)
        for head, record in fresh:
            self._take(head, record)
        if self.head.seq > pinned.seq:
            self.chain.settle()  # or the next look would take the older head for a log that was put back

    def write(self, *events: Event, checkpoint: bool = False) -> Head:
        """All of the events or none, durable when it returns. Raises DataError as ``refresh``, OSError (disk full)."""
        self.refresh()
        if self.head == START:
            events = (Begun(self.party, self.identity.sign_pk.hex()), *events)
        before = self.head.seq
        self.chain.append(*map(self._record, events))
        self.refresh()
        if checkpoint or self.head.seq // EVERY > before // EVERY:
            self.chain.append(self._record(Checkpoint(self._tree.size, self._tree.root.hex())))
            self.refresh()
        return self.head

    def _record(self, event: Event) -> Record:
        if self.clock is None:
            return event.to_record()
        self._latest = max(self._latest, self.clock())  # a clock that was set back reorders nothing
        return {**event.to_record(), "at": self._latest}

    def _take(self, head: Head, record: Record) -> None:
        check_line(head, record, self._tree, self.party)
        if head.seq == 1 and record["key"] != self.identity.sign_pk.hex():
            raise DataError(f"{FILE}, line 1", "the log was begun with another key", NEVER_BACK)
        self._tree.add(head.hash)
        self._latest = max(self._latest, int(record.get("at", 0)))
        self.head = head
        self.each(head, record)


def check_line(head: Head, record: Record, before: Tree, party: str) -> None:
    """What a line has to say in its place, ``before`` being the tree over the lines before it. Raises DataError."""
    where = f"{FILE}, line {head.seq}"
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        raise DataError(where, "no event of an audit log", NEVER_BACK)
    if (record["event"] == Begun.NAME) != (head.seq == 1) or (head.seq == 1 and record.get("party") != party):
        raise DataError(where, f"not where the log of {party!r} begins", NEVER_BACK)
    if record["event"] == Checkpoint.NAME and (record.get("size"), record.get("root")) != (
        before.size,
        before.root.hex(),
    ):
        raise DataError(where, "the checkpoint is not of the lines before it", NEVER_BACK)
