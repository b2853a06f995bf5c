"""One exchange with some parties: encode, count, check that each answers what it was asked."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from fedprofile.coordinator.wire import Wire
from fedprofile.errors import NodeFailed, RemoteProtocolError, TrainingDiverged
from fedprofile.messages import REPLY_BODY, REPLY_TO, UPWARD, Envelope
from fedprofile.secagg.wire import is_fps1

ABSENT = frozenset({"no_answer", "need_setup"})
Talk = Generator[dict[str, bytes], dict[str, bytes], dict[str, Envelope]]


@dataclass(frozen=True)
class Conversation:
    """``everyone`` are the party ids of the run; every byte is booked in ``wire``."""

    everyone: tuple[str, ...]
    wire: Wire

    def ask(self, requests: dict[str, Envelope], absent: bool = False) -> Talk:
        """Yields request bytes by party and is sent the answers; returns the replies.

        ``absent``: a party that gives no answer, or has lost its keys, is left out instead of being named.
        Raises NodeFailed naming the party, TrainingDiverged naming node and layer.
        """
        encoded = {party: envelope.encode() for party, envelope in requests.items()}
        self.wire.sent(requests, encoded)
        answers = yield encoded
        replies = {}
        for party, request in requests.items():
            try:
                replies[party] = self._reply(party, request, answers.get(party))
            except NodeFailed as error:
                if not absent or error.code not in ABSENT:
                    raise
        return replies

    def _reply(self, party: str, request: Envelope, answer: bytes | None) -> Envelope:
        if answer is None:
            raise NodeFailed(party, "no_answer")
        try:
            reply = Envelope.decode(answer)
        except RemoteProtocolError as error:
            raise NodeFailed(party, error.code) from None
        self.wire.received(reply.type, len(answer))
        if reply.type == "error":
            raise _failure(party, reply)
        due = (REPLY_TO[request.type], REPLY_BODY.get(reply.type, set()), self._parts_due(request))
        if (reply.type, set(reply.body), len(reply.parts)) != due:
            raise NodeFailed(party, "wrong_reply")
        return reply

    def _parts_due(self, request: Envelope) -> int:
        if request.type == "release-request":
            return len(self.everyone)
        if request.type in ("round", "survivors", "open"):
            return sum(is_fps1(part) for part in request.parts)
        return UPWARD[REPLY_TO[request.type]]


def _failure(party: str, reply: Envelope) -> Exception:
    code = str(reply.body.get("code", "unknown"))
    if code == "training_diverged":
        return TrainingDiverged(party, str(reply.body.get("layer", "?")), int(reply.body.get("t", 0)))
    return NodeFailed(party, code)
