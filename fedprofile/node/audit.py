"""The audit log of a node's home: what happened in a message is noted, and written before the answer may leave.

One choke point: ``Node.handle`` hands every reply to ``sent``, which makes one durable append of all that was noted and
of the reply itself; only then are its bytes given to the transport. The journal (``fedprofile.node.journal``) stays
what caps and the retry rule look at. The two know of each other: an upload's journal entry holds the audit head that
it carried, and the log holds which uploads left. So where one of the two was put back from a backup, the other one
tells; where both were, the other parties do, who were shown a head and see it again (``fedprofile.node.heads``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress

from fedprofile.errors import DataError, ProtocolError
from fedprofile.governance.audit import FILE, CoordinatorHead, Decided, Event, Heads, Refused, Sent, TableUsed
from fedprofile.governance.audit_log import NEVER_BACK, AuditLog
from fedprofile.governance.chain import START, Head, Record, now_seconds
from fedprofile.messages import Envelope
from fedprofile.node.home import NodeHome
from fedprofile.node.journal import Journal
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.messages import Agree, Reveal, Upload
from fedprofile.secagg.resilient_messages import decode_upload
from fedprofile.secagg.wire import ZERO_HASH
from fedprofile.types import Roster, RunPlan

SEALED = frozenset({"labels", "points", "spine", "claims", "views", "masked"})
"""Messages with sealed letters, whose bytes differ between two equal simulations."""
_SUMS: dict[str, Callable[[bytes, Roster], Upload | Agree | Reveal]] = {
    "uploads": decode_upload,
    "agreements": Agree.decode,
    "reveals": Reveal.decode,
}
Place = tuple[str, str, str, int, int]
Begun = dict[str, set[str]]
"""Hash of a plan with a standing approval -> hashes of the later plans that ran under it."""


def log_of(home: NodeHome) -> AuditLog:
    """The log in the home's key folder, there or not; for commands that write one event, under the home's lock."""
    clock = None if home.config.secrets == "simulated" else now_seconds
    return AuditLog(home.keys, home.config.party, Identity.from_seed(home.derive("identity")), clock)


def record(home: NodeHome, *events: Event) -> None:
    """Durable when it returns; takes the home's lock."""
    with home.lock():
        log_of(home).write(*events)


def begun_under(home: NodeHome) -> Begun:
    """By the log as it is on disk; a reader needs no lock. Raises DataError for one that was changed."""
    begun: Begun = {}
    for line in log_of(home).chain:
        _note_begun(begun, line)
    return begun


def _note_begun(begun: Begun, record: Record) -> None:
    if record["event"] == Decided.NAME and "under" in record:
        begun.setdefault(record["under"], set()).add(record["plan"])


class NodeAudit:
    """What a node's process knows of its log; ``note`` is for the handlers of messages, the rest for ``Node``."""

    def __init__(self, home: NodeHome, journal: Journal) -> None:
        self._simulated = home.config.secrets == "simulated"
        self._journal, self._log = journal, log_of(home)
        self._log.each = self._take
        self._noted: list[Event] = []
        self._checked = False
        self._own: set[bytes] = set()
        self._sent: set[Place] = set()
        self._peers: dict[tuple[str, str], tuple[str, int]] = {}
        self._coordinator: dict[str | None, Head] = {}
        self._table: Record = {}
        self.begun: Begun = {}

    # -- what the log knows ----------------------------------------------------------------------
    @property
    def head(self) -> bytes:
        """32 bytes: the last line on disk, which an upload carries."""
        return self._log.head.hash

    def place_of(self, party: str, head: str) -> tuple[str, int] | None:
        """Run and round in which another party showed this head before."""
        return self._peers.get((party, head))

    def coordinator_head(self, key: bytes) -> Head:
        """The last one that was shown under this key (b"": unchecked, before one was pinned); ``START`` for none."""
        return self._coordinator.get(key.hex() or None, START)

    def begin(self) -> None:
        """Before every message. Raises DataError for a log that was changed, or a log or journal that was put back."""
        self._log.refresh()
        if not self._checked:
            self._compare_with_journal()
            self._checked = True

    def _compare_with_journal(self) -> None:
        uploads = [e for e in self._journal if e["event"] == "upload"]
        shown = bytes.fromhex(uploads[-1].get("audit_head", "")) if uploads else b""
        if shown not in (b"", ZERO_HASH) and shown not in self._own:
            raise DataError(FILE, "the log ends before what this node has sent: it was cut or put back", NEVER_BACK)
        journalled = {(e["run"], e["kind"], e["scope"], e["t"], e["attempt"]) for e in uploads}
        if not self._sent <= journalled:
            what = "uploads that the audit log says were sent are missing: the journal was cut or put back"
            raise DataError(self._journal.path.name, what, NEVER_BACK)

    def _take(self, head: Head, record: Record) -> None:
        if head.signature:
            self._own.add(head.hash)
        if record["event"] == Heads.NAME:
            for party, peer in record.get("peers", {}).items():
                self._peers.setdefault((party, peer), (record["run"], record["t"]))
        elif record["event"] == CoordinatorHead.NAME and "refused" not in record:
            mark, signature = (bytes.fromhex(record[name]) for name in ("head", "sig"))
            self._coordinator[record.get("key")] = Head(record["seq"], mark, signature)
        elif record["event"] == TableUsed.NAME:
            self._table = {k: v for k, v in record.items() if k != "at"}
        elif record["event"] == Sent.NAME and record["type"] == "uploads":
            self._sent |= {(record["run"], *sum) for sum in record["sums"]}
        _note_begun(self.begun, record)

    # -- what is written -------------------------------------------------------------------------
    def note(self, *events: Event) -> None:
        """Goes to disk with the answer to the message in work, before it leaves.

        A table is noted again only where rows, columns, contract or ledger differ from the last time: any process of
        the node may read it, in a simulation several do.
        """
        for event in events:
            repeated = isinstance(event, TableUsed) and event.to_record() == self._table
            if not repeated and event not in self._noted:
                self._noted.append(event)

    def sent(self, asked: str, reply: bytes, plan: RunPlan | None, roster: Roster) -> None:
        """The egress ledger: on disk when it returns. ``plan``: of the run that this node is in.

        Raises DataError or OSError; then the reply must not leave.
        """
        envelope = Envelope.decode(reply)
        outside = envelope.type in ("identity", "pending") or (asked == "plan" and envelope.type == "error")
        run, purpose = (None, None) if plan is None or outside else (plan.run_id.hex(), plan.purpose)
        if envelope.type == "error":
            self.note(Refused(str(envelope.body["code"]), asked, run))
        mark = None if self._simulated and envelope.type in SEALED else hashlib.sha256(reply).hexdigest()
        sums = _sums(envelope, roster) if envelope.type in _SUMS else None
        line = Sent(envelope.type, asked, len(reply), len(envelope.parts), mark, run, purpose, sums)
        self._log.write(*self._noted, line, checkpoint=envelope.type == "finished")
        self._noted.clear()


def _sums(envelope: Envelope, roster: Roster) -> tuple[tuple[str, str, int, int], ...]:
    """Which sums the parts belong to; a part that is no such message is in the line's count and hash alone."""
    found = []
    for part in envelope.parts:
        with suppress(ProtocolError):
            id = _SUMS[envelope.type](part, roster).id
            found.append((id.kind, id.scope, id.t, id.attempt))
    return tuple(found)
