"""Reading one customer's sensitive value in the clear: two people's keys, and a record before the value is shown.

A *custodian* is a person whom the holder registered in its ledger under a name and an Ed25519 key; the private key is
in that person's hands alone, never in the home. The holder vouches that two names are two people: keys can only show
that they are two keys. Both sign the same request — one subject, these columns, a reason from the list, an expiry,
a number that is used once — and the request opens once.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedprofile.errors import DataError, ProtocolError, UsageError
from fedprofile.governance.ledger import ConsentLedger
from fedprofile.governance.subjects import Subjects, from_bytes, to_bytes
from fedprofile.secagg.identity import Identity, is_weak, verify
from fedprofile.types import canonical, digest

REASONS = ("complaint", "court_order", "data_subject_access", "fraud_inquiry", "regulator_inquiry", "security_incident")
MAX_HOURS = 72
NEEDED = 2
_SIGNED = "break-glass"


@dataclass(frozen=True)
class Request:
    """What the two sign. Times are UTC seconds since 1970."""

    holder: str
    subject: str
    columns: tuple[str, ...]
    reason: str
    requested: int
    expires: int
    nonce: str

    @property
    def hash(self) -> bytes:
        return digest("break-glass/1", canonical(asdict(self)))

    @property
    def subjects(self) -> Subjects:
        return from_bytes(bytes.fromhex(self.subject))


@dataclass(frozen=True)
class Approval:
    name: str
    signature: bytes


def register(ledger: ConsentLedger, name: str, public_key: bytes) -> None:
    """Make a person a custodian. Raises UsageError for a name or key that is or ever was another's, or a weak key."""
    taken = ledger.noted("custodian")
    if name in _custodians(ledger):
        raise UsageError(f"custodian {name!r} is registered", "Revoke the old key first.")
    if any(r["key"] == public_key.hex() for r in taken):
        raise UsageError("this key was registered before", "Every person, and every new start, has a key of its own.")
    if is_weak(public_key):
        raise UsageError("not a usable Ed25519 public key", "Make one with `fedprofile consent custodian new`.")
    ledger.note("custodian", name=name, key=public_key.hex())


def dismiss(ledger: ConsentLedger, name: str) -> None:
    """From now on the person's approvals, earlier ones too, open nothing."""
    if name not in _custodians(ledger):
        raise UsageError(f"no custodian {name!r} is registered")
    ledger.note("custodian-revoked", name=name)


def request(ledger: ConsentLedger, subject: Subjects, columns: Sequence[str], reason: str, hours: int) -> Request:
    """A new request about one subject, (1, 2), noted in the ledger. Raises UsageError: reason, hours."""
    if reason not in REASONS:
        raise UsageError(f"unknown reason {reason!r}", f"Use one of {', '.join(REASONS)}.")
    if not 1 <= hours <= MAX_HOURS or not columns:
        raise UsageError("a request names columns and 1 to 72 hours")
    ledger.refresh()
    now = ledger.now()
    names, nonce = tuple(sorted(set(columns))), secrets.token_hex(16)
    made = Request(ledger.holder, to_bytes(subject).hex(), names, reason, now, now + hours * 3600, nonce)
    ledger.note("break-glass-request", request=made.hash.hex(), subject=made.subject, reason=reason)
    return made


def approve(made: Request, name: str, identity: Identity) -> Approval:
    """One person's signature under the request; it takes nothing but their own key."""
    return Approval(name, identity.sign(_SIGNED, made.hash))


def spend(ledger: ConsentLedger, made: Request, approvals: Sequence[Approval]) -> None:
    """Check everything, then record the read: durable when it returns, and only then may the value be shown.

    The caller holds the home's lock, so that a request cannot be spent twice at once. Raises UsageError.
    """
    consents = ledger.refresh()
    mark = made.hash.hex()
    if made.holder != ledger.holder or mark not in {r["request"] for r in ledger.noted("break-glass-request")}:
        raise UsageError("this request was not made here", "Open the very file that `break-glass request` wrote.")
    if mark in {r["request"] for r in ledger.noted("break-glass-open")}:
        raise UsageError("this request was opened before", "Every read needs a request of its own.")
    if ledger.now() >= made.expires:
        raise UsageError("this request has expired", "Make a new one.")
    if consents.deleted(made.subjects).any():
        raise UsageError("this customer has asked to be deleted", "Their values are read no more.")
    registered, names = _custodians(ledger), {a.name for a in approvals}
    for approval in approvals:
        _check(approval, made, registered)
    if len(names) < NEEDED or len({registered[n] for n in names}) < NEEDED:
        raise UsageError("two different people have to approve", "Ask another registered custodian.")
    facts = {"subject": made.subject, "columns": list(made.columns), "reason": made.reason}
    ledger.note("break-glass-open", request=mark, approvers=sorted(names), **facts)


def to_json(made: Request, approvals: Sequence[Approval] = ()) -> bytes:
    signed = [{"name": a.name, "signature": a.signature.hex()} for a in approvals]
    return canonical({"request": asdict(made), "approvals": signed})


def from_json(data: bytes, file: str) -> tuple[Request, list[Approval]]:
    """Raises DataError for a file that is no request."""
    try:
        held = json.loads(data)
        fields = held["request"]
        made = Request(**{**fields, "columns": tuple(fields["columns"])})
        if len(bytes.fromhex(made.subject)) != 16 or not isinstance(made.expires, int):
            raise ValueError("subject")
        return made, [Approval(str(a["name"]), bytes.fromhex(a["signature"])) for a in held["approvals"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(file, "not a break-glass request", "Use the file that `break-glass request` wrote.") from None


def _check(approval: Approval, made: Request, registered: Mapping[str, bytes]) -> None:
    if approval.name not in registered:
        raise UsageError(f"{approval.name!r} is no registered custodian", "Ask somebody who is.")
    try:
        verify(registered[approval.name], _SIGNED, made.hash, approval.signature)
    except ProtocolError:
        raise UsageError(f"the approval of {approval.name!r} is not of this request", "Ask for it again.") from None


def _custodians(ledger: ConsentLedger) -> dict[str, bytes]:
    """Who may approve now: name -> raw public key."""
    held: dict[str, Any] = {}
    ledger.refresh()
    for record in ledger.notes:
        if record["event"] == "custodian":
            held[record["name"]] = bytes.fromhex(record["key"])
        elif record["event"] == "custodian-revoked":
            held.pop(record["name"], None)
    return held
