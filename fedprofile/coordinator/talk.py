"""One exchange with some parties: encode, count, check that each answers what it was asked."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from hashlib import sha256

from fedprofile.coordinator.wire import Wire
from fedprofile.errors import NodeFailed, RemoteProtocolError, TrainingDiverged
from fedprofile.messages import PENDING, REPLY_BODY, REPLY_TO, UPWARD, Envelope
from fedprofile.secagg.codes import CODES, OWN_FAULTS
from fedprofile.secagg.setup_messages import Complaint
from fedprofile.secagg.wire import claims
from fedprofile.types import Roster

ABSENT = frozenset({"no_answer", "need_setup"})
Talk = Generator[dict[str, bytes], dict[str, bytes], dict[str, Envelope]]


@dataclass(frozen=True)
class Conversation:
    """With the parties of a roster; every byte is booked in ``wire``.

    A refusal says one of the fixed codes and ``layers``: whatever else stands in it is a node's own text, not repeated.
    """

    roster: Roster
    wire: Wire
    layers: frozenset[str] = frozenset()

    def ask(self, requests: dict[str, Envelope], absent: bool = False) -> Talk:
        """Yields request bytes by party and is sent the answers; returns the replies.

        ``absent``: a party that gives no answer, or has lost its keys, is left out instead of being named.
        Raises NodeFailed naming the party, TrainingDiverged naming node and layer.
        """
        distinct = {id(envelope): envelope for envelope in requests.values()}
        once = {key: envelope.encode() for key, envelope in distinct.items()}
        encoded = {party: once[id(envelope)] for party, envelope in requests.items()}
        self.wire.sent(requests, encoded)
        answers = yield encoded
        replies = {}
        for party, request in requests.items():
            try:
                replies[party] = self._reply(party, request, encoded[party], answers.get(party))
            except NodeFailed as error:
                if not absent or error.code not in ABSENT:
                    raise
        return replies

    def _reply(self, party: str, request: Envelope, sent: bytes, answer: bytes | None) -> Envelope:
        if answer is None:
            raise NodeFailed(party, "no_answer")
        try:
            reply = Envelope.decode(answer)
        except RemoteProtocolError as error:
            raise NodeFailed(party, error.code) from None
        self.wire.received(reply.type, len(answer))
        if reply.type == "error":
            raise self._failure(party, reply, request.type, sent)
        if reply == Envelope(PENDING) and request.type == "plan":
            return reply
        due = (REPLY_TO[request.type], REPLY_BODY.get(reply.type, set()), self._parts_due(request))
        if request.type == "finish" and party == self.roster.label_owner:
            due = ("finished", set(), 0)
        if (reply.type, set(reply.body), len(reply.parts)) != due:
            raise NodeFailed(party, "wrong_reply")
        return reply

    def _parts_due(self, request: Envelope) -> int:
        if request.type == "release-request":
            return len(self.roster.parties)
        if request.type == "align-spine":
            return 1 + len(request.parts)  # the signature, and an answer to each letter
        if request.type == "align-views":
            return len(request.parts)
        if request.type == "round":
            return sum(claims(part, "Round") for part in request.parts)
        if request.type in ("survivors", "open"):
            return len(request.parts)
        return UPWARD[REPLY_TO[request.type]]

    def _failure(self, party: str, reply: Envelope, asked: str, sent: bytes) -> Exception:
        code, layer, t = (reply.body.get(key) for key in ("code", "layer", "t"))
        if code == "training_diverged" and isinstance(layer, str) and layer in self.layers and type(t) is int:
            return TrainingDiverged(party, layer, t)
        if not isinstance(code, str) or (code not in CODES and code not in OWN_FAULTS):
            return NodeFailed(party, "wrong_reply")
        mend = CODES.get(code, "")
        if not reply.parts:
            return NodeFailed(party, code, mend=mend)
        try:
            complaint = Complaint.decode(reply.parts[0], self.roster)
            complaint.verify(self.roster)
        except RemoteProtocolError:
            return NodeFailed(party, "bad_complaint")
        if (complaint.party, complaint.code, complaint.about) != (party, code, sha256(sent).digest()):
            return NodeFailed(party, "bad_complaint")
        what = f"a signed complaint about the {asked!r} that it was sent"
        return NodeFailed(party, code, what, mend, complaint=sha256(reply.parts[0]).hexdigest())
