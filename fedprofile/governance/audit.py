"""What an audit log says: typed events, each of them public facts alone, and the root over the heads of a round.

Names, counts, hashes and fixed codes; never a value of a row, a customer's id or pseudonym, a key or free text. Times
are UTC seconds since 1970 and belong to the log (``fedprofile.governance.audit_log``), not to an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from fedprofile.governance.merkle import root
from fedprofile.secagg.wire import ZERO_HASH

FILE = "audit.jsonl"
Record = dict[str, Any]


def chain_name(party: str) -> str:
    """What separates this log from every other chain of the party's key."""
    return f"audit/{party}"


@dataclass(frozen=True)
class Event:
    """Base of all events; ``NAME`` is what a line calls it. Fields that are None are left out of the line."""

    NAME: ClassVar[str]

    def to_record(self) -> Record:
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in held.items() if v is not None}
        return {"event": self.NAME, **plain}


@dataclass(frozen=True)
class Begun(Event):
    """The first line: whose log it is, and the public key (hexadecimal) that its heads verify with."""

    NAME = "begun"
    party: str
    key: str


@dataclass(frozen=True)
class Decided(Event):
    """A plan was approved or refused. ``by``: "people" who signed it, or the node's own "policy".

    ``columns`` are the names of those that this node would bring, ``label_eps`` the total per customer. ``runs``: of a
    standing approval, how many runs it is for; ``under``: of a plan that runs under one, the hash of the approved plan.
    """

    NAME = "plan"
    decision: Literal["approved", "refused"]
    by: Literal["people", "policy"]
    plan: str
    run: str
    purpose: str
    tasks: tuple[str, ...]
    columns: tuple[str, ...]
    rounds: int
    label_eps: float | None
    until: str | None = None
    runs: int | None = None
    under: str | None = None


@dataclass(frozen=True)
class TableUsed(Event):
    """Rows of the snapshot entered a run: how many, which columns, under which contract and consent ledger.

    ``contract`` is its root, ``consent`` the head of the ledger that allowed the rows, ``consent_line`` its length,
    ``quality`` the figure of the snapshot's check; None where the home has none (a simulation).
    """

    NAME = "table"
    run: str
    purpose: str
    rows: int
    columns: tuple[str, ...]
    contract: str | None
    consent: str | None
    consent_line: int | None
    quality: float | None = None


@dataclass(frozen=True)
class Sent(Event):
    """One message that may have left from here on: its type, size, SHA-256, and what it answered.

    ``sums``: [kind, scope, t, attempt] of each masked vector or agreement among its ``parts``. ``sha256`` is None only
    in a simulation, for letters and labels, whose sealing draws fresh keys: equal simulations have equal logs.
    """

    NAME = "sent"
    type: str
    asked: str
    bytes: int
    parts: int
    sha256: str | None = None
    run: str | None = None
    purpose: str | None = None
    sums: tuple[tuple[str, str, int, int], ...] | None = None


@dataclass(frozen=True)
class Refused(Event):
    """A request was refused with a fixed code."""

    NAME = "refused"
    code: str
    asked: str
    run: str | None = None


@dataclass(frozen=True)
class Heads(Event):
    """What the coordinator bound a round to: the root over the heads of the uploads before it, beside its own head.

    ``peers``: party -> head, where this node was given the signed uploads themselves; of round ``t`` - 1.
    """

    NAME = "heads"
    run: str
    t: int
    root: str
    peers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class CoordinatorHead(Event):
    """Where the coordinator's own log stood when it asked for round ``t``: line, hash, and its signature of that hash.

    ``key`` is the one that this node has pinned and checked the signature with; None where its invitation names none.
    ``refused``: the head does not follow from the one before it, and the round was refused.
    """

    NAME = "coordinator"
    run: str
    t: int
    seq: int
    head: str
    sig: str
    key: str | None = None
    refused: bool | None = None


@dataclass(frozen=True)
class BreakGlass(Event):
    """One customer's values are read in the clear: the request, and the line of the consent ledger that says more."""

    NAME = "break-glass"
    request: str
    columns: tuple[str, ...]
    reason: str
    consent: str
    consent_line: int


@dataclass(frozen=True)
class Spent(Event):
    """What a finished run took from the budgets: masked uploads, opened score sums, ε of the label release."""

    NAME = "spent"
    run: str
    purpose: str
    uploads: int
    openings: int
    label_eps: float | None


@dataclass(frozen=True)
class KeyRotated(Event):
    """A new key for dialling; ``sha256`` is of its public half."""

    NAME = "key-rotated"
    sha256: str


@dataclass(frozen=True)
class Left(Event):
    """The node left its federation."""

    NAME = "left"


@dataclass(frozen=True)
class Checkpoint(Event):
    """The Merkle root (RFC 6962) over the hashes of all ``size`` lines before this one."""

    NAME = "checkpoint"
    size: int
    root: str


def heads_root(heads: Mapping[str, bytes]) -> bytes:
    """The root (32 bytes) over the heads of the uploads before a round, by party; zero before the first.

    A Round is bound to it, and to the head of the coordinator's log where there is one (``audit_coordinator.bound``).
    """
    if not heads:
        return ZERO_HASH
    return root([party.encode() + b"\0" + head for party, head in sorted(heads.items())])
