"""A recommendation to train again: what was found about a champion, and whose word it is.

A validator, who judges models, or an operator, who has the live customers before them, signs it with the own key. It
decides nothing: a retraining that follows one names it in the log, where every reader checks it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fedprofile.errors import DataError, ProtocolError
from fedprofile.governance.people import People, Role
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import canonical, digest

SIGNERS: tuple[Role, ...] = ("validator", "operator")
_SIGNED = "advice"


@dataclass(frozen=True)
class Advice:
    """Hashes are hex. registry: public root key of the registry in which it counts; champion: its manifest; evidence:
    name of watch.json (``watch.Outlook.evidence``); table: SHA-256 of the live customers' file; made: UTC seconds.

    ``person`` and ``signature`` are empty where nobody signed.
    """

    registry: str
    champion: str
    evidence: str
    table: str
    reasons: tuple[str, ...]
    made: int
    person: str = ""
    signature: bytes = field(default=b"", repr=False)

    @property
    def hash(self) -> bytes:
        return digest("advice/1", canonical(self._body()))

    def signed(self, person: str, identity: Identity) -> Advice:
        named = replace(self, person=person)
        return replace(named, signature=identity.sign(_SIGNED, named.hash))

    def refusal(self, people: People, registry: str, champion: str | None, now: int) -> str:
        """Why it does not count in this registry, for this champion, now; empty if it does."""
        if not self.signature:
            return "nobody signed it"
        person = people.get(self.person)
        if person is None:
            return "no such person"
        try:
            verify(person.sign_pk, _SIGNED, self.hash, self.signature)
        except ProtocolError:
            return "not signed by this person's key"
        checks = (
            (not person.is_live(now), "the person is revoked or no longer valid"),
            (not set(SIGNERS) & set(person.roles), f"the person is no {' or '.join(SIGNERS)}"),
            (self.registry != registry, "of another registry"),
            (self.champion != champion, "about another than today's champion"),
            (self.made > now, "not made yet"),
        )
        return next((why for wrong, why in checks if wrong), "")

    def to_json(self) -> dict[str, Any]:
        return {**self._body(), "signature": self.signature.hex()}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Advice:
        """Raises DataError for anything that is no recommendation."""
        try:
            given = Advice(
                str(raw["registry"]), str(raw["champion"]), str(raw["evidence"]), str(raw["table"]),
                reasons=tuple(map(str, raw["reasons"])), made=int(raw["made"]),
                person=str(raw["person"]), signature=bytes.fromhex(raw["signature"]),
            )  # fmt: skip
            given.hash  # noqa: B018 - half a character, which JSON can hold, has no bytes to sign
            return given
        except (ValueError, KeyError, TypeError):
            raise DataError("a recommendation", "not of this form", "Run `fedprofile registry watch` again.") from None

    def _body(self) -> dict[str, Any]:
        body = {k: v for k, v in vars(self).items() if k != "signature"}
        return body | {"format": 1, "reasons": list(self.reasons)}
