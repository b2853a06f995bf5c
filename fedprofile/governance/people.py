"""Who may do what in a registry: persons with keys of their own, in a file that the root key signs.

The root key is made with the registry and kept offline; it signs versions of this file and nothing else. Every version
names the hash of the one before. Nobody is ever dropped: a person who left is marked as revoked, so that what they
once signed can still be checked. That two entries are two people is the root's word; keys only show that they are two
keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

from fedprofile.errors import DataError, ProtocolError, UsageError
from fedprofile.secagg.identity import Identity, is_weak, verify
from fedprofile.types import canonical, digest

Role = Literal["trainer", "validator", "approver", "operator", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)
FILE = "people.json"
ROOT = "root"
"""Who signs for the root key; no person may have this id."""
ID_RULE = "small letters, digits, dots, - and _, at most 40, a letter first"
_ID = re.compile(r"[a-z][a-z0-9._-]{0,39}")
_SIGNED = "people"


@dataclass(frozen=True)
class Person:
    """``sign_pk`` is a raw Ed25519 key (32 bytes); times are UTC seconds since 1970, the end not included."""

    id: str
    sign_pk: bytes
    roles: tuple[Role, ...]
    valid_until: int
    revoked: int | None = None

    def is_live(self, now: int) -> bool:
        return now < self.valid_until and (self.revoked is None or now < self.revoked)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "sign_pk": self.sign_pk.hex(), "roles": list(self.roles)}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Person:
        roles = cast("tuple[Role, ...]", tuple(raw["roles"]))
        return Person(raw["id"], bytes.fromhex(raw["sign_pk"]), roles, raw["valid_until"], raw["revoked"])


@dataclass(frozen=True)
class People:
    """One version of the file; version 1 follows 32 zero bytes."""

    version: int
    previous: bytes
    persons: tuple[Person, ...] = ()
    signature: bytes = field(default=b"", repr=False)

    @property
    def hash(self) -> bytes:
        return digest("people/1", canonical(self._body()))

    def get(self, id: str) -> Person | None:
        return next((p for p in self.persons if p.id == id), None)

    def holder(self, sign_pk: bytes) -> Person | None:
        return next((p for p in self.persons if p.sign_pk == sign_pk), None)

    def allow(self, id: str, roles: tuple[Role, ...], now: int) -> Person:
        """The person, who is live and holds at least one of ``roles``. Raises UsageError saying which fails."""
        person = self.get(id)
        if person is None:
            raise UsageError(f"{id!r} is not in {FILE}", "The holder of the root key adds people: registry people add.")
        if not person.is_live(now):
            raise UsageError(f"{id!r} is revoked or no longer valid", "Ask the holder of the root key.")
        if not set(roles) & set(person.roles):
            raise UsageError(f"{id!r} is {' and '.join(person.roles)}, not {' or '.join(roles)}", "Ask one who is.")
        return person

    def added(self, person: Person, root: Identity) -> People:
        """The next version, with one person more. Raises UsageError for an id or a key that is or was another's."""
        if self.get(person.id) or any(p.sign_pk == person.sign_pk for p in self.persons):
            raise UsageError("this id or this key is or was in the file", "Every start has an id and a key of its own.")
        if person.sign_pk == root.sign_pk:
            raise UsageError("the root key is no person's", "Make a key with `fedprofile registry person new`.")
        return self._next((*self.persons, person), root)

    def revoked(self, id: str, now: int, root: Identity) -> People:
        """The next version, in which nothing that ``id`` signs, or has signed for a decision to come, counts."""
        person = self.get(id)
        if person is None or person.revoked is not None:
            raise UsageError(f"{id!r} is not in {FILE}, or revoked before", "Look: fedprofile registry people list.")
        return self._next(tuple(replace(p, revoked=now) if p.id == id else p for p in self.persons), root)

    def verified(self, root_pk: bytes, before: People | None = None) -> People:
        """Raises DataError unless the root signed this version, its entries make sense and it follows ``before``."""
        try:
            verify(root_pk, _SIGNED, self.hash, self.signature)
        except ProtocolError:
            raise DataError(FILE, "not signed by this registry's root key", "Restore it from the backup.") from None
        expected = (before.version + 1, before.hash) if before else (1, bytes(32))
        if (self.version, self.previous) != expected:
            raise DataError(FILE, "this version does not follow the one before", "Restore it from the backup.")
        for person in self.persons:
            _check(person)
        if any(len({column(p) for p in self.persons}) < len(self.persons) for column in (_by_id, _by_key)):
            raise DataError(FILE, "two entries share an id or a key", "Restore it from the backup.")
        if before and not {p.id for p in before.persons} <= {p.id for p in self.persons}:
            raise DataError(FILE, "a person was dropped", "Revoke people; what they signed must stay checkable.")
        return self

    def to_json(self) -> dict[str, Any]:
        return {**self._body(), "signature": self.signature.hex()}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> People:
        """Raises DataError for anything that is no such document."""
        try:
            persons = tuple(Person.from_json(p) for p in raw["persons"])
            previous, signature = bytes.fromhex(raw["previous"]), bytes.fromhex(raw["signature"])
            return People(int(raw["version"]), previous, persons, signature)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(FILE, "not a file of people", "Restore it from the backup.") from None

    def _next(self, persons: tuple[Person, ...], root: Identity) -> People:
        return People(self.version + 1, self.hash, persons)._signed(root)

    def _signed(self, root: Identity) -> People:
        return replace(self, signature=root.sign(_SIGNED, self.hash))

    def _body(self) -> dict[str, Any]:
        persons = [p.to_json() for p in self.persons]
        return {"version": self.version, "previous": self.previous.hex(), "persons": persons}


def nobody(root: Identity) -> People:
    """Version 1: the root has signed that nobody may do anything yet."""
    return People(1, bytes(32))._signed(root)


def is_id(text: str) -> bool:
    """Whether a person may be called so: ID_RULE."""
    return _ID.fullmatch(text) is not None and text != ROOT


def person(id: str, sign_pk: bytes, roles: tuple[str, ...], valid_until: int) -> Person:
    """A new entry. Raises UsageError for a bad id, key, or set of roles."""
    made = Person(id, sign_pk, cast("tuple[Role, ...]", tuple(r for r in ROLES if r in roles)), valid_until)
    if unknown := set(roles) - set(ROLES):
        raise UsageError(f"unknown role {sorted(unknown)[0]!r}", f"Use {', '.join(ROLES)}.")
    try:
        _check(made)
    except DataError as error:
        raise UsageError(str(error.what), "See `fedprofile registry people add --help`.") from None
    return made


def _by_id(person: Person) -> str:
    return person.id


def _by_key(person: Person) -> bytes:
    return person.sign_pk


def _check(person: Person) -> None:
    if not is_id(person.id):
        raise DataError(FILE, f"an id is none: use {ID_RULE}")
    if is_weak(person.sign_pk):
        raise DataError(FILE, "not a usable Ed25519 public key")
    # An auditor who could act would audit their own acts.
    if not person.roles or ("auditor" in person.roles and len(person.roles) > 1):
        raise DataError(FILE, "a person has at least one role, and an auditor no other")
