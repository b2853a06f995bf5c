"""How many bytes a node answers with, by message type. Counts and fixed names; no content is kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp


class Meter:
    """A ClientApp in front of another: passes everything through and counts replies and their bytes."""

    def __init__(self, app: ClientApp) -> None:
        self._app = app
        self.bytes: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()

    def __call__(self, message: Message, context: Context) -> Message:
        from fedprofile.flower.records import unpack
        from fedprofile.messages import Envelope

        reply = self._app(message=message, context=context)
        data = unpack(reply)
        type_ = Envelope.decode(data).type
        self.bytes[type_] += len(data)
        self.replies[type_] += 1
        return reply
