"""The consent ledger of one home: ``consent.jsonl``, a chain that the data holder signs, and what is written to it.

Who holds what: the holder's node identity (the key of the roster) signs every append; the subject key, derived from
the same home's secret, makes the pseudonyms. Whoever has a copy of the ledger and the roster can check that nothing
was changed and count; only the home can tell which customer a line is about. No id is ever written, printed or raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedprofile.errors import DataError, UsageError
from fedprofile.governance.chain import SIGNED_HEAD, START, Chain, Head, Record, now_seconds
from fedprofile.governance.consent_records import Seconds, Terms, revocation_records, signed_records
from fedprofile.governance.consents import Consents
from fedprofile.governance.subjects import Subjects, key_check
from fedprofile.secagg.identity import Identity

FILE, NAME = "consent.jsonl", "consent"


@dataclass
class ConsentLedger:
    """The ledger in ``path`` of party ``holder``; ``subject_key`` is the one its pseudonyms are made with.

    ``clock`` gives UTC seconds since 1970; a record never carries an earlier time than the one before it.
    """

    path: Path
    holder: str
    identity: Identity = field(repr=False)
    subject_key: bytes = field(repr=False)
    clock: Callable[[], int] = now_seconds
    head: Head = START
    consents: Consents = field(default_factory=Consents, repr=False)
    notes: list[Record] = field(default_factory=list, repr=False)

    @property
    def chain(self) -> Chain:
        return Chain(self.path, NAME, lambda mark: self.identity.sign(SIGNED_HEAD, mark))

    def create(self) -> None:
        """Begin the ledger unless it is there. Its first line says whose it is."""
        if not self.path.exists():
            self.chain.append({"event": "ledger", "at": self.clock(), "holder": self.holder, "key": self._key_check()})

    def refresh(self) -> Consents:
        """Read what was appended since the last call, and what it amounts to.

        Raises UsageError where there is no ledger, DataError naming the line for one that was changed or cut, that is
        another party's, or was written with another subject key.
        """
        if not self.path.exists():
            raise UsageError(
                f"{self.path.name} is missing: this home has no consent ledger", "Run `fedprofile consent import`."
            )
        if fresh := list(self.chain.lines(self.head)):
            self.chain.check_signature(fresh[-1][0], self.identity.sign_pk)
            for head, record in fresh:
                self._take(head, record)
                self.head = head
        return self.consents

    def _take(self, head: Head, record: Record) -> None:
        try:
            if head.seq == 1 and (record["holder"], record["key"]) != (self.holder, self._key_check()):
                raise ValueError("another party's, or of another secret")
            self.consents.apply(record)
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{self.path.name}, line {head.seq}",
                "not a record of this home's ledger",
                "Use the ledger and the secret that belong together.",
            ) from None
        if "subjects" not in record:
            self.notes.append(record)

    def sign_up(self, terms: Terms, subjects: Subjects, start: Seconds, end: Seconds) -> int:
        """Record that customers signed; returns how many of the records were new."""
        new = ~self.refresh().known(terms, subjects, start, end)
        if new.any():
            self._write(*signed_records(terms, subjects[new], start[new], end[new], self.now()))
        return int(new.sum())

    def revoke(self, subjects: Subjects, channel: str, *, purpose: str = "", recipient: str = "") -> Head:
        """Take back every term, or those of one purpose, one recipient; in force from the node's next message on."""
        self.refresh()
        return self._write(*revocation_records(subjects, channel, self.now(), purpose=purpose, recipient=recipient))

    def request_deletion(self, subjects: Subjects, channel: str) -> Head:
        """Take back every term and begin the way to a certificate."""
        self.refresh()
        return self._write(*revocation_records(subjects, channel, self.now(), deletion=True))

    def note(self, event: str, **facts: Any) -> Head:
        """Record something that is no term: a certificate, a custodian, a break-glass read."""
        self.refresh()
        return self._write({"event": event, "at": self.now(), **facts})

    def noted(self, event: str) -> list[Record]:
        self.refresh()
        return [r for r in self.notes if r["event"] == event]

    def now(self) -> int:
        """UTC seconds, never before the ledger's last record: a clock that was set back brings nothing back."""
        return max(self.clock(), self.consents.latest)

    def _write(self, *records: Record) -> Head:
        if not records:
            raise UsageError("nobody is named", "Give at least one customer.")
        self.chain.append(*records)
        self.refresh()
        return self.head

    def _key_check(self) -> str:
        return key_check(self.subject_key)
