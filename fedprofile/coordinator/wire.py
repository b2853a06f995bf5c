"""How many messages and bytes crossed, by type and direction: counted where they cross."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedprofile.messages import Envelope

Count = dict[str, dict[str, int]]


@dataclass
class Wire:
    """``up`` is from nodes to the coordinator; bytes are of the envelopes, without Flower's own framing."""

    up: Count = field(default_factory=dict)
    down: Count = field(default_factory=dict)

    def sent(self, requests: Mapping[str, Envelope], encoded: Mapping[str, bytes]) -> None:
        for party, envelope in requests.items():
            _add(self.down, envelope.type, len(encoded[party]))

    def received(self, type_: str, size: int) -> None:
        _add(self.up, type_, size)


def _add(count: Count, type_: str, size: int) -> None:
    row = count.setdefault(type_, {"messages": 0, "bytes": 0})
    row["messages"] += 1
    row["bytes"] += size
