"""Check an audit log without the node that wrote it: ``python -m fedprofile.governance.audit_verify DIR``.

Needs the folder (audit.jsonl and audit.head) and the Python standard library, ``cryptography`` and this package's chain
and Merkle tree; no torch, Flower or polars. The key is the party's as the roster names it; without one, the key that
the log itself names is used, and the answer says so. ``heads`` are what others hold of this log: each must be a signed
line of it, else a tail was cut or another history is shown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedprofile.errors import DataError, FedprofileError, UsageError
from fedprofile.governance.audit import FILE, Begun, Checkpoint, CoordinatorHead, Heads, chain_name
from fedprofile.governance.audit_coordinator import COORDINATOR
from fedprofile.governance.audit_log import check_line
from fedprofile.governance.chain import START, Chain, Head, Record
from fedprofile.governance.merkle import Tree

_RESTORE = "Ask the party for the whole log; if it has none, it cannot prove what it did since."


@dataclass(frozen=True)
class Verified:
    """``covered``: lines under the last checkpoint. ``rest``: bytes behind the last signature, an unfinished write.

    ``pinned``: the log's own head file was there, so that a cut tail is noticed without any ``heads``.
    """

    party: str
    key: str
    head: Head
    events: dict[str, int]
    checkpoints: int
    covered: int
    first: int | None
    last: int | None
    rest: int
    pinned: bool
    heads: int
    key_given: bool

    def to_json(self) -> Record:
        plain = {k: v for k, v in vars(self).items() if k != "head"}
        return {"ok": True, "lines": self.head.seq, "head": self.head.hash.hex(), **plain}

    def to_text(self) -> str:
        return "\n".join(f"{name:<13}{text}" for name, text in self.rows().items())

    def rows(self) -> dict[str, str]:
        source = "invitation" if self.party == COORDINATOR else "roster"
        whose = "given" if self.key_given else f"named by the log itself: compare it with the {source}"
        times = f"{_day(self.first)} to {_day(self.last)}" if self.first and self.last else "no times (a simulation)"
        return {
            "party": self.party,
            "lines": f"{self.head.seq}, numbered without a gap, {times}",
            "signature": f"good, key {self.key} ({whose})",
            "checkpoints": f"{self.checkpoints}, the last one over {self.covered} lines",
            "head": self.head.hash.hex(),
            "end": "at its own head file" if self.pinned else "no head file: a cut tail shows only against --head",
            "heads": f"{self.heads} that others hold are in it",
            "gaps": f"{self.rest} bytes of an unfinished write at the end" if self.rest else "none",
        }


def verify_log(
    folder: Path,
    key: bytes | None = None,
    heads: Iterable[bytes] = (),
    each: Callable[[Record], object] = lambda _: None,
) -> Verified:
    """Every line, number, hash, signature and checkpoint. Raises DataError naming the first line that is wrong.

    ``key``: the holder's raw Ed25519 key (32 bytes). ``each`` is told of every event, in order; what it was told
    counts only if this returns. Raises UsageError where there is no log.
    """
    path = folder / FILE
    party, named = _whose(path)
    holder, chain, tree = named if key is None else key, Chain(path, chain_name(party)), Tree()
    wanted, events = set(heads), Counter[str]()
    asked, found, covered, last = len(wanted), START, 0, START
    times: list[int] = []
    for found, record in chain.lines():
        check_line(found, record, tree, party)
        tree.add(found.hash)
        events[record["event"]] += 1
        times = [*times[:1], record["at"]] if "at" in record else times
        if record["event"] == Checkpoint.NAME:
            covered = record["size"]
        if found.signature:
            chain.check_signature(found, holder)
            wanted.discard(found.hash)
            last = found
        each(record)
    if last == START:
        raise DataError(f"{FILE}, line 1", "no line is signed", _RESTORE)
    if wanted:
        what = f"head {min(wanted).hex()} is held by others and is no line here: the tail was cut, or it is a fork"
        raise DataError(f"{FILE}, line {last.seq + 1}", what, _RESTORE)
    first, end = (times[0], times[-1]) if times else (None, None)
    pinned, rest = chain.pinned() != START, path.stat().st_size - last.end
    return Verified(
        party, holder.hex(), last, dict(events), events[Checkpoint.NAME], covered, first, end, rest, pinned, asked,
        key is not None,
    )  # fmt: skip


def heads_of(party: str, folder: Path, key: bytes | None = None) -> set[bytes]:
    """The heads of ``party`` that another party's log holds: from signed uploads, the coordinator's from rounds.

    ``key``: leaves out those that a coordinator signed with another one, of another log. Raises as ``verify_log`` does.
    """
    held = set[bytes]()
    whose = (None, key.hex()) if key else ()

    def take(record: Record) -> None:
        if record["event"] == Heads.NAME and party in record.get("peers", {}):
            held.add(bytes.fromhex(record["peers"][party]))
        if (record["event"], party) == (CoordinatorHead.NAME, COORDINATOR) and (
            not whose or record.get("key") in whose
        ):
            held.add(bytes.fromhex(record["head"]))

    verify_log(folder, each=take)
    return held


def _whose(path: Path) -> tuple[str, bytes]:
    """Party and key of the first line; what it says is checked with the chain."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.readline())["record"]
        if record["event"] != Begun.NAME or not isinstance(record["party"], str):
            raise ValueError
        return record["party"], bytes.fromhex(record["key"])
    except FileNotFoundError:
        raise UsageError(f"there is no {FILE} in {path.parent}", "Name a node's home, or a copy of its log.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path.name}, line 1", "not the beginning of an audit log", _RESTORE) from None


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def verify_shown(
    folder: Path, key: bytes | None = None, heads: Iterable[bytes] = (), peer: Path | None = None
) -> Verified:
    """``verify_log`` against ``heads`` and against those that the log of ``peer``, checked as well, holds."""
    held = set(heads)
    if peer is not None:
        party, named = _whose(folder / FILE)
        held |= heads_of(party, peer, named if key is None else key)
    return verify_log(folder, key, held)


if __name__ == "__main__":
    asked = argparse.ArgumentParser(prog="audit_verify", description="Check an audit log.")
    asked.add_argument("folder", type=Path, metavar="DIR")
    asked.add_argument("--key", type=bytes.fromhex, metavar="HEX")
    asked.add_argument("--head", type=bytes.fromhex, action="append", default=[], metavar="HEX")
    asked.add_argument("--peer", type=Path, metavar="DIR")
    given = asked.parse_args()
    try:
        print(verify_shown(given.folder, given.key, given.head, given.peer).to_text())
    except FedprofileError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
