"""Four eyes: what a person signs about a version, and which of those signatures count.

A promotion needs a validator and an approver, two persons with two keys, neither of them the trainer. Each signs the
exact bundle (hash of its manifest) and the exact gate report that they have read, in one role, until a day. Somebody's
last word counts, and one live rejection stops a promotion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

from fedprofile.errors import DataError, ProtocolError, UsageError
from fedprofile.governance.people import People, Person, Role
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import canonical, digest

Choice = Literal["approve", "reject"]
NEEDED: tuple[Role, ...] = ("validator", "approver")
DAY = 86400
MAX_DAYS = 90
_SIGNED = "approval"


@dataclass(frozen=True)
class Approval:
    """One person's word about one bundle and one gate report. Hashes are hex; times UTC seconds since 1970.

    ``registry``: hex public root key of the registry in which it counts.
    """

    registry: str
    manifest: str
    report: str
    person: str
    role: Role
    decision: Choice
    made: int
    expires: int
    signature: bytes = field(default=b"", repr=False)

    @property
    def hash(self) -> bytes:
        return digest("approval/1", canonical(self._body()))

    def signed(self, identity: Identity) -> Approval:
        return replace(self, signature=identity.sign(_SIGNED, self.hash))

    def refusal(self, people: People, now: int) -> str:
        """Why it does not count, whatever it is about; empty if it does."""
        person = people.get(self.person)
        if person is None:
            return "no such person"
        if not self.is_signed_by(person):
            return "not signed by this person's key"
        checks = (
            (not person.is_live(now), "the person is revoked or no longer valid"),
            (self.role not in person.roles or self.role not in NEEDED, f"the person is no {self.role} who decides"),
            (not self.made <= now < self.expires, "expired, or not made yet"),
            (self.expires - self.made > MAX_DAYS * DAY, f"longer than {MAX_DAYS} days"),
            (self.decision not in get_args(Choice), "neither approves nor rejects"),
        )
        return next((why for wrong, why in checks if wrong), "")

    def to_json(self) -> dict[str, Any]:
        return {**self._body(), "signature": self.signature.hex()}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Approval:
        """Raises DataError for anything that is no approval."""
        try:
            return Approval(
                str(raw["registry"]), str(raw["manifest"]), str(raw["report"]), str(raw["person"]),
                role=cast("Role", raw["role"]), decision=cast("Choice", raw["decision"]),
                made=int(raw["made"]), expires=int(raw["expires"]), signature=bytes.fromhex(raw["signature"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            raise DataError("an approval", "not of this form", "Let the person approve again.") from None

    def is_signed_by(self, person: Person) -> bool:
        try:
            verify(person.sign_pk, _SIGNED, self.hash, self.signature)
        except ProtocolError:
            return False
        return True

    def _body(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "signature"}


def approval(
    about: tuple[str, str, str], person: Person, role: Role | None, decision: Choice, now: int, days: int
) -> Approval:
    """An unsigned approval ``about`` (registry, manifest, report). Raises UsageError for a role that cannot decide.

    Without ``role``: the person's own, where only one of theirs decides.
    """
    mine = [r for r in NEEDED if r in person.roles]
    chosen = role or (mine[0] if len(mine) == 1 else None)
    if chosen is None and mine:
        raise UsageError(f"{person.id!r} is validator and approver", "Say which: --role validator or --role approver.")
    if chosen not in mine:
        raise UsageError(f"{person.id!r} is no validator or approver", "Ask one who is.")
    if not 1 <= days <= MAX_DAYS:
        raise UsageError(f"an approval holds 1 to {MAX_DAYS} days", "Choose another --expires.")
    return Approval(*about, person.id, chosen, decision, now, now + days * DAY)


@dataclass(frozen=True)
class Count:
    """``counted``: what counts, one a person. ``reasons``: why it is not enough; none means that it is."""

    counted: tuple[Approval, ...]
    reasons: tuple[str, ...]


def count(approvals: Iterable[Approval], about: tuple[str, str, str], people: People, trainer: str, now: int) -> Count:
    """Judge approvals, in the order they were made, for (registry, manifest, report); ``trainer``: a person's id."""
    last: dict[str, Approval] = {}
    refused: list[tuple[str, str]] = []
    for given in approvals:
        person = people.get(given.person)
        if (given.registry, given.manifest, given.report) != about:
            refused.append((given.person, "of another bundle, gate report or registry"))
        elif given.person == trainer:
            refused.append((given.person, "the trainer does not approve"))
        elif person is None or not given.is_signed_by(person):
            refused.append((given.person, given.refusal(people, now)))
        else:
            last[given.person] = given
    # Only now: a rejection that has run out must not bring back the approval that it replaced.
    refused += [(given.person, why) for given in last.values() if (why := given.refusal(people, now))]
    counted = tuple(given for given in last.values() if not given.refusal(people, now))
    reasons = [f"{a.person!r} rejects it" for a in counted if a.decision == "reject"]
    given_by = {role: {a.person for a in counted if a.role == role and a.decision == "approve"} for role in NEEDED}
    lacking = [f"no {role} has approved it" for role in NEEDED if not given_by[role]]
    # One person speaks in one role, the last; so two roles are two persons, and people have a key each.
    uncounted = [f"approval of {person!r} does not count: {why}" for person, why in refused]
    return Count(counted, tuple(reasons + lacking + (uncounted if lacking else [])))
