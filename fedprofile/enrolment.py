"""How a party joins: signed public documents that travel as files, outside the federation's own wire.

A node's *request* names its keys and the columns of its table; the coordinator's *invitation* proposes the next roster
and says where the federation is; each member's *signature* over the roster goes back. A roster is in force once every
member of the version before has signed it (version 1: all its own; secure-sum 9.6). None of it is secret; what
matters is read out loud: both sides compare a document's fingerprint over a channel that they trust.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from fedprofile.errors import ProtocolError, UsageError
from fedprofile.secagg.identity import ROSTER_TYPE, Identity, check_roster, verify
from fedprofile.types import Party, Policy, Roster, Schema, Task, TaskKind, canonical, digest

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
NAMES = "Use small letters, digits, - and _, at most 40, a letter first."
_REQUEST = "enrolment-request"


@dataclass(frozen=True)
class Request:
    """What a party asks to be enrolled with, signed by the key that it names.

    ``flower_key``: OpenSSH line of its Flower node key. ``levels``: how many codes each categorical column may hold.
    ``tasks`` and ``many_rows`` (over 12,000 training customers) are the label owner's alone; whoever names tasks asks
    to be it.
    """

    party: str
    org: str
    role: str
    sign_pk: bytes
    flower_key: str
    schema: Schema
    levels: Mapping[str, int]
    release: str
    tasks: tuple[Task, ...] = ()
    many_rows: bool = False
    signature: bytes = field(default=b"", repr=False)

    @property
    def is_owner(self) -> bool:
        return bool(self.tasks)

    @property
    def wire_name(self) -> str:
        """A file name for the party, whatever its id holds."""
        return Party(self.party, "", "", b"").wire_id.hex()

    @property
    def fingerprint(self) -> str:
        return spoken(digest("request/1", canonical(self._body())))

    def signed(self, identity: Identity) -> Request:
        return replace(self, signature=identity.sign(_REQUEST, canonical(self._body())))

    def verified(self) -> Request:
        """Raises UsageError where the holder of the named key did not sign exactly this, or a name is none."""
        if not NAME.fullmatch(self.party) or not NAME.fullmatch(self.role):
            raise UsageError(f"{self.party!r} or {self.role!r} is no name of a party or role", NAMES)
        try:
            verify(self.sign_pk, _REQUEST, canonical(self._body()), self.signature)
        except ProtocolError:
            raise UsageError(f"the request of {self.party!r} is not signed by its own key", _AGAIN) from None
        return self

    def _body(self) -> dict[str, Any]:
        return {
            "party": self.party,
            "org": self.org,
            "role": self.role,
            "sign_pk": self.sign_pk.hex(),
            "flower_key": self.flower_key,
            "schema": [list(self.schema.numeric), list(self.schema.categorical)],
            "levels": dict(self.levels),
            "release": self.release,
            "tasks": [[t.name, t.kind, t.classes] for t in self.tasks],
            "many_rows": self.many_rows,
        }

    def to_json(self) -> dict[str, Any]:
        return {"document": "request", **self._body(), "signature": self.signature.hex()}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Request:
        numeric, categorical = raw["schema"]
        tasks = tuple(Task(str(n), cast(TaskKind, k), int(c)) for n, k, c in raw["tasks"])
        return Request(
            str(raw["party"]), str(raw["org"]), str(raw["role"]), bytes.fromhex(raw["sign_pk"]),
            str(raw["flower_key"]), Schema(tuple(numeric), tuple(categorical)),
            {str(k): int(v) for k, v in raw["levels"].items()}, str(raw["release"]), tasks,
            bool(raw["many_rows"]), bytes.fromhex(raw["signature"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Invitation:
    """A proposed roster, the federation's policy, and where and how its coordinator is reached.

    ``ca`` is PEM; ``fab`` the SHA-256 of the only Flower bundle that the coordinator will send; ``audit_key`` the
    public key (hexadecimal) of the coordinator's audit log, "" in an invitation from before there was one; ``previous``
    the roster in force with its signatures, which the proposal names by hash.
    """

    federation: str
    roster: Roster
    policy: Policy
    coordinator: str
    ca: str
    fab: str
    audit_key: str = ""
    previous: Roster | None = None

    @property
    def fingerprint(self) -> str:
        mine = canonical({k: v for k, v in self.to_json().items() if k not in ("roster", "previous")})
        return spoken(digest("invitation/1", self.roster.hash, mine))

    def to_json(self) -> dict[str, Any]:
        named = {"audit_key": self.audit_key} if self.audit_key else {}  # or an old one would change its fingerprint
        return named | {
            "document": "invitation",
            "federation": self.federation,
            "roster": self.roster.to_json(),
            "policy": self.policy.to_json(),
            "coordinator": self.coordinator,
            "ca": self.ca,
            "fab": self.fab,
            "previous": self.previous.to_json() if self.previous else None,
        }

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Invitation:
        roster, policy = Roster.from_json(raw["roster"]), Policy.from_json(raw["policy"])
        previous = Roster.from_json(raw["previous"]) if raw.get("previous") else None
        where, audit_key = (str(raw["coordinator"]), str(raw["ca"]), str(raw["fab"])), raw.get("audit_key", "")
        if audit_key and len(bytes.fromhex(audit_key)) != 32:
            raise ValueError
        return Invitation(str(raw["federation"]), roster, policy, *where, audit_key, previous)


@dataclass(frozen=True)
class RosterSignature:
    """A member's word for one roster version."""

    party: str
    roster: bytes
    signature: bytes = field(repr=False)

    @staticmethod
    def of(party: str, roster: Roster, identity: Identity) -> RosterSignature:
        return RosterSignature(party, roster.hash, identity.sign(ROSTER_TYPE, roster.hash))

    def to_json(self) -> dict[str, Any]:
        signature = self.signature.hex()
        return {"document": "signature", "party": self.party, "roster": self.roster.hex(), "signature": signature}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> RosterSignature:
        return RosterSignature(str(raw["party"]), bytes.fromhex(raw["roster"]), bytes.fromhex(raw["signature"]))


Document = Request | Invitation | RosterSignature
_KINDS: dict[str, type[Document]] = {
    "request": Request,
    "invitation": Invitation,
    "signature": RosterSignature,
}
_AGAIN = "Ask its sender for the file as the command wrote it."


def read_document(path: Path) -> Document:
    """Raises UsageError for a file that is none of the three."""
    try:
        raw = json.loads(path.read_bytes())
        return _KINDS[raw["document"]].from_json(raw)
    except OSError:
        raise UsageError(f"{path} cannot be read", "Check the path.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path} is no document of an enrolment", _AGAIN) from None


def write_document(path: Path, document: Document) -> Path:
    path.write_text(json.dumps(document.to_json(), indent=1, ensure_ascii=False))
    return path


def next_roster(previous: Roster | None, requests: Mapping[str, Request]) -> Roster:
    """The version after ``previous`` with exactly the parties of these requests: the label owner first, then by role
    and id, so that the order of enrolment does not matter. Unsigned.

    Raises UsageError without exactly one label owner, or for keys that two parties share.
    """
    owners = [r.party for r in requests.values() if r.is_owner]
    if len(owners) != 1:
        found = ", ".join(owners) or "nobody"
        raise UsageError(
            f"{found} asks to be the label owner; a federation has exactly one", "Enrol the bank's request."
        )
    ordered = sorted(requests.values(), key=lambda r: (not r.is_owner, r.role, r.party))
    parties = tuple(Party(r.party, r.org, r.role, r.sign_pk) for r in ordered)
    version, before = (previous.version + 1, previous.hash) if previous else (1, b"")
    roster = Roster(version, before, parties, owners[0])
    try:
        check_roster(roster)
    except ProtocolError:
        raise UsageError("two parties have the same key, or a key is weak", "Each node makes its own.") from None
    return roster


def electors(roster: Roster, previous: Roster | None) -> tuple[str, ...]:
    """Who has to sign ``roster``: the members of the version before, or all its own; newcomers sign as well."""
    return tuple(dict.fromkeys([*(p.id for p in (previous or roster).parties), *(p.id for p in roster.parties)]))


def spoken(mark: bytes) -> str:
    """80 bits of a hash in groups of four digits: what two people can compare on the telephone."""
    text = mark.hex()[:20]
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))
