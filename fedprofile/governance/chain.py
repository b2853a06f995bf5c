"""A signed, append-only hash chain of canonical JSON lines, which the consent ledger and the audit log share.

A line is ``{"hash", "prev", "record", "seq"}`` and, on the last line of every append, ``"sig"``::

    hash = SHA-256(domain "chain/1", name of the chain, canonical {"prev", "record", "seq"})
    prev = hash of the line before, 32 zero bytes on the first; seq = line number from 1
    sig  = Ed25519 of the holder over hash, domain "fps1/chain"

One signature covers all lines before it, so an import of many records costs one. Lines behind the last signature are
an append that did not finish: readers pass them over, the next append cuts them away. Beside the chain lies its head
(``NAME.head``), written after the lines: a chain that ends before its head was cut, and is refused. The head cannot
notice a folder that was put back as a whole: for that, heads go to the other parties.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from fedprofile.errors import DataError, ProtocolError
from fedprofile.files import sync
from fedprofile.secagg.identity import verify
from fedprofile.types import canonical, digest

SIGNED_HEAD = "chain"
Record = dict[str, Any]
Sign = Callable[[bytes], bytes]
"""Signs the 32 bytes of a line's hash, as ``Identity.sign(SIGNED_HEAD, hash)`` does."""


@dataclass(frozen=True)
class Head:
    """Where a chain stands: last line, its hash (32 bytes), its signature (empty inside an append), bytes so far."""

    seq: int = 0
    hash: bytes = bytes(32)
    signature: bytes = b""
    end: int = 0

    def to_json(self) -> Record:
        return {"seq": self.seq, "hash": self.hash.hex(), "sig": self.signature.hex(), "end": self.end}

    @staticmethod
    def from_json(data: Record) -> Head:
        return Head(data["seq"], bytes.fromhex(data["hash"]), bytes.fromhex(data["sig"]), data["end"])


START = Head()


def now_seconds() -> int:
    """The clock of both logs: UTC seconds since 1970."""
    return int(time.time())


@dataclass(frozen=True)
class Chain:
    """The chain in ``path``; ``name`` separates it from every other chain of the same key. Without ``sign``: to read.

    One writer at a time, held by a lock on the file; readers need none.
    """

    path: Path
    name: str
    sign: Sign | None = field(default=None, repr=False)

    def append(self, *records: Record) -> Head:
        """Durable, all or none, when it returns; the cost does not grow with the chain.

        Raises DataError where the chain ends before its head, OSError (disk full) with the chain as it was.
        """
        with self._locked() as file:
            return self._add(file, self._end(file), records)

    def swap(self, old: Head, record: Record) -> Head | None:
        """``append`` if the chain still ends at ``old``; None if somebody was faster."""
        with self._locked() as file:
            before = self._end(file)
            return self._add(file, before, (record,)) if before == old else None

    def settle(self) -> None:
        """Keep the head of an append that finished, but whose process was killed before it wrote the head."""
        with self._locked() as file:
            self._keep(self._end(file))

    def lines(self, after: Head = START) -> Iterator[tuple[Head, Record]]:
        """Each line behind ``after`` that a signature covers, checked, with the head that it makes.

        Raises DataError naming file and line for a changed, missing or inserted line.
        """
        pinned = self.pinned()
        head, waiting = after, list[tuple[Head, Record]]()
        signed = head.seq
        if self.path.exists():
            with open(self.path, "rb") as file:
                file.seek(after.end)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        break
                    head, record = self._check(head, raw)
                    waiting.append((head, record))
                    if head.seq == pinned.seq and head != pinned:
                        raise self._broken(head.seq, "the line is not the one that was signed")
                    if head.signature:
                        signed = head.seq
                        yield from waiting
                        waiting.clear()
        if signed < pinned.seq:
            raise self._broken(signed + 1, "lines were cut: the chain ends before its head")

    def __iter__(self) -> Iterator[Record]:
        return (record for _, record in self.lines())

    def verify(self, public_key: bytes) -> Head:
        """Check every line and every signature against the holder's raw Ed25519 key.

        Raises DataError naming file and line. The head of an empty chain is ``START``.
        """
        last = START
        for head, _ in self.lines():
            last = head
            if head.signature:
                self.check_signature(head, public_key)
        return last

    def check_signature(self, head: Head, public_key: bytes) -> None:
        """Raises DataError unless the holder of ``public_key`` signed this head."""
        try:
            verify(public_key, SIGNED_HEAD, head.hash, head.signature)
        except ProtocolError:
            raise self._broken(head.seq, "the signature is not the holder's") from None

    def pinned(self) -> Head:
        """The head as this folder remembers it; ``START`` where only the lines were handed on."""
        try:
            raw = self._pin.read_bytes()
            head = Head.from_json(json.loads(raw))
            if canonical(head.to_json()) != raw:
                raise ValueError("written by somebody else")
            return head
        except FileNotFoundError:
            return START
        except (ValueError, KeyError, TypeError):
            raise DataError(self._pin.name, "the head of a chain is damaged", "Restore it from the backup.") from None

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        # Unbuffered: what a full disk did not take must not be tried again, behind a hole, when the file is closed.
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _add(self, file: FileIO, before: Head, records: tuple[Record, ...]) -> Head:
        if self.sign is None or not records:
            raise ValueError("an append needs a signing key and a record")
        lines, head = link(self.name, before, records, self.sign)
        try:
            file.truncate(before.end)
            file.seek(before.end)
            _write_whole(file, lines)
            os.fsync(file.fileno())
            self._keep(head)
        except OSError:
            file.truncate(before.end)
            raise
        return head

    @property
    def _pin(self) -> Path:
        return self.path.with_suffix(".head")

    def _end(self, file: FileIO) -> Head:
        """The last head that counts: the pinned one, or of a finished append whose head was not written any more."""
        if not self._pin.exists():
            if file.seek(0, os.SEEK_END):
                raise DataError(self._pin.name, "the head of a chain is missing", "Restore it from the backup.")
            self._keep(START)
            sync(self.path.parent)
        head = self.pinned()
        if file.seek(0, os.SEEK_END) < head.end:
            raise self._broken(head.seq, "lines were cut: the chain ends before its head")
        for later, _ in self.lines(head):
            head = later
        return head

    def _check(self, before: Head, raw: bytes) -> tuple[Head, Record]:
        return follow(self.name, before, raw, self.path.name)

    def _keep(self, head: Head) -> None:
        new = self._pin.with_name(self._pin.name + ".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(canonical(head.to_json()))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._pin)

    def _broken(self, line: int, what: str) -> DataError:
        return _broken(self.path.name, line, what)


def link(name: str, before: Head, records: tuple[Record, ...], sign: Sign) -> tuple[bytes, Head]:
    """The bytes of the next lines of chain ``name``, the last one signed, and the head that they make."""
    head, out = before, list[bytes]()
    for record in records:
        body = {"prev": head.hash.hex(), "record": record, "seq": head.seq + 1}
        mark = _hash(name, body)
        signature = sign(mark) if len(out) == len(records) - 1 else b""
        line = _encode(body, mark, signature)
        head = Head(head.seq + 1, mark, signature, head.end + len(line))
        out.append(line)
    return b"".join(out), head


def follow(name: str, before: Head, raw: bytes, where: str) -> tuple[Head, Record]:
    """Check that ``raw`` is the line after ``before``; its head and record.

    Raises DataError naming ``where`` and the line. Signatures are not checked.
    """
    seq = before.seq + 1
    try:
        line = json.loads(raw)
        body = {"prev": line["prev"], "record": line["record"], "seq": line["seq"]}
        head = Head(seq, _hash(name, body), bytes.fromhex(line.get("sig", "")), before.end + len(raw))
        intact = raw == _encode(body, head.hash, head.signature)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _broken(where, seq, "not a line of a chain") from None
    if not intact or line["seq"] != seq:
        raise _broken(where, seq, "the line was changed")
    if line["prev"] != before.hash.hex():
        raise _broken(where, seq, "the line does not follow the one before it")
    return head, line["record"]


def _hash(name: str, body: Record) -> bytes:
    return digest("chain/1", name.encode(), canonical(body))


def _broken(where: str, line: int, what: str) -> DataError:
    return DataError(f"{where}, line {line}", what, "Restore the file from the backup; do not edit it.")


def _encode(body: Record, mark: bytes, signature: bytes) -> bytes:
    signed = {"sig": signature.hex()} if signature else {}
    return canonical({**body, "hash": mark.hex(), **signed}) + b"\n"


def _write_whole(file: FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]
