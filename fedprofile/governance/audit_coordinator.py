"""The coordinator's audit log: what it says, and how its head is shown to the nodes.

Its lines are made as a node's are (``fedprofile.governance.audit_log``), under a key that it keeps for this alone:
names of parties, counts, hashes and fixed codes, never a sum. With every round the nodes get the signed head and the
lines since the one that they were shown before. Each checks that the new head follows from the last, and the round is
bound to it (``bound``): a cut tail or a fork is noticed by every node in the next round, and nodes that are shown two
heads do not unmask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedprofile.errors import DataError
from fedprofile.governance.audit import Event, chain_name
from fedprofile.governance.chain import START, Head, follow
from fedprofile.secagg.codes import remote
from fedprofile.types import digest

COORDINATOR = "@coordinator"
"""Whose log it is; no party has such a name."""
SHOWN = "log"
"""Key of a request's body under which a head is shown."""

Change = Literal["made", "renewed", "rotated", "retired"]


@dataclass(frozen=True)
class Certified(Event):
    """The federation's certificates changed; ``ca`` is the SHA-256 of the CA in force (hexadecimal)."""

    NAME = "certificate"
    change: Change
    ca: str


@dataclass(frozen=True)
class Requested(Event):
    """A party's enrolment request was taken: its role, its public key, and the fingerprint that is read aloud."""

    NAME = "request"
    party: str
    role: str
    key: str
    fingerprint: str


@dataclass(frozen=True)
class Removed(Event):
    """A party is let in no more, from here on."""

    NAME = "removed"
    party: str


@dataclass(frozen=True)
class RosterInForce(Event):
    """All have signed this roster version; ``policy`` is the hash of the limits that they pinned with it."""

    NAME = "roster"
    version: int
    roster: str
    policy: str
    parties: tuple[str, ...]


@dataclass(frozen=True)
class Submitted(Event):
    """A training was begun, or ``resumed``: hashes of its plan and of its resolved configuration."""

    NAME = "run"
    run: str
    training: str
    plan: str
    config: str
    profile: str
    parties: tuple[str, ...]
    resumed: bool | None = None


@dataclass(frozen=True)
class Started(Event):
    """A process goes on with a run after its round ``t`` under new keys; ``attempt`` counts such starts from 0."""

    NAME = "started"
    run: str
    attempt: int
    t: int


@dataclass(frozen=True)
class Summed(Event):
    """A sum was opened, or, where an ``opener`` is named, passed on to it masked; written before it goes anywhere.

    ``sha256`` is of the result, ``heads`` the root over the members' audit heads, ``shown`` the line of this log that
    all ``members`` had been shown with the request (None where that is not known).
    """

    NAME = "sum"
    run: str
    kind: str
    scope: str
    t: int
    attempt: int
    members: tuple[str, ...]
    sha256: str
    heads: str
    opener: str | None = None
    shown: int | None = None


@dataclass(frozen=True)
class Failed(Event):
    """A run ended, or a round was lost, with a fixed code. ``renewed``: it goes on under new keys.

    ``complaint``: SHA-256 of the ``party``'s signed complaint about what it was sent.
    """

    NAME = "failed"
    run: str
    code: str
    party: str | None = None
    t: int | None = None
    complaint: str | None = None
    renewed: bool | None = None


@dataclass(frozen=True)
class Stopped(Event):
    """The operator stopped a training; it can be resumed."""

    NAME = "stopped"
    run: str


@dataclass(frozen=True)
class Finished(Event):
    """A training is finished at all nodes."""

    NAME = "finished"
    run: str
    rounds: int


def bound(others: bytes, head: bytes) -> bytes:
    """The audit head of a Round (32 bytes) from the root over the parties' heads and the head of the coordinator's log.

    Where no log is kept, as in a simulation, it is ``others`` itself.
    """
    return digest("round-heads/1", others, head)


@dataclass(frozen=True)
class Shown:
    """A head of the coordinator's log with its signature, the last ``lines`` that end in it, and the root over the
    parties' heads (32 bytes), as it comes with a round."""

    head: Head
    others: bytes
    lines: tuple[bytes, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "seq": self.head.seq,
            "head": self.head.hash.hex(),
            "sig": self.head.signature.hex(),
            "others": self.others.hex(),
            "lines": [line.decode() for line in self.lines],
        }

    @staticmethod
    def from_json(raw: object) -> Shown:
        """Raises RemoteProtocolError("bad_request") for anything else than ``to_json`` gives."""
        try:
            if not isinstance(raw, Mapping) or set(raw) != {"seq", "head", "sig", "others", "lines"}:
                raise ValueError
            mark, signature, others = (bytes.fromhex(raw[key]) for key in ("head", "sig", "others"))
            lines = tuple(line.encode() for line in raw["lines"])
            if (
                type(raw["seq"]) is not int
                or raw["seq"] < 1
                or [len(mark), len(signature), len(others)] != [32, 64, 32]
            ):
                raise ValueError
            return Shown(Head(raw["seq"], mark, signature), others, lines)
        except (ValueError, TypeError, AttributeError):
            raise remote("bad_request", "the head of the coordinator's log is none") from None

    def follows(self, last: Head) -> bool:
        """Whether this head is ``last`` itself or comes from it by the lines given; the first head follows nothing."""
        if last == START:
            return True
        known = len(self.lines) - (self.head.seq - last.seq)
        if self.head.seq < last.seq or known < 0:
            return False
        try:
            for line in self.lines[known:]:
                last, _ = follow(chain_name(COORDINATOR), last, line, COORDINATOR)
        except DataError:
            return False
        return (last.seq, last.hash) == (self.head.seq, self.head.hash)
