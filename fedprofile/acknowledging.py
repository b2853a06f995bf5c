"""A partner's word that it keeps its own encoder of a finished run, which the label owner puts into the model's bundle.

The digest is a hiding commitment: SHA-256 over 32 secret bytes of the node and the plan, then the file. Who saw every
round's shared weights could otherwise make the file of each round, and learn which was best at a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedprofile.errors import RemoteProtocolError
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import Roster, digest

_SIGNED = "encoder"


@dataclass(frozen=True)
class Acknowledgement:
    """digest: 32 bytes. signature: Ed25519 by the party's identity over the plan's hash and the digest."""

    digest: bytes
    signature: bytes

    @staticmethod
    def of(data: bytes, salt: bytes, plan: bytes, identity: Identity) -> Acknowledgement:
        """salt: 32 bytes that only the node can make again, of this plan."""
        mark = digest("kept-encoder/1", salt, data)
        return Acknowledgement(mark, identity.sign(_SIGNED, plan + mark))

    def to_json(self) -> dict[str, str]:
        return {"digest": self.digest.hex(), "signature": self.signature.hex()}

    @staticmethod
    def checked(said: Any, party: str, roster: Roster, plan: bytes) -> Acknowledgement:
        """From JSON. Raises RemoteProtocolError("bad_acknowledgement") unless it is the party's own, of this plan."""
        try:
            mark, signature = bytes.fromhex(said["digest"]), bytes.fromhex(said["signature"])
            verify(roster.party(party).sign_pk, _SIGNED, plan + mark, signature)
            if len(mark) == 32:
                return Acknowledgement(mark, signature)
        except (RemoteProtocolError, ValueError, KeyError, TypeError):
            pass
        raise RemoteProtocolError("bad_acknowledgement", f"not {party!r}'s own word on the encoder of this run")


def all_checked(said: Any, roster: Roster, plan: bytes) -> dict[str, Acknowledgement]:
    """By party, of exactly the partners. Raises RemoteProtocolError("bad_acknowledgement")."""
    partners = [p.id for p in roster.parties if p.id != roster.label_owner]
    if not isinstance(said, dict) or set(said) != set(partners):
        raise RemoteProtocolError("bad_acknowledgement", "a run ends with the word of every partner")
    return {party: Acknowledgement.checked(said[party], party, roster, plan) for party in partners}
