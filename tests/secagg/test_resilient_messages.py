"""The messages of a resilient round: canonical, and any byte flipped in any of them ends in a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from fedprofile.errors import ProtocolError
from fedprofile.secagg import messages
from fedprofile.secagg.codes import CODES
from fedprofile.secagg.messages import FROM_NODE, MAX_SIZE, message_type
from fedprofile.types import Layout, Quantised, Segment

LAYOUT = Layout((Segment("w", (6,), 32, 1.0, 1.0),))


def run(federate, damage, keep=lambda consume, data: None):
    """A round of five without "tax4"; ``keep`` gets each message and a receiver that a refusal leaves as it was."""
    fed = federate(5, profile="resilient").set_up()
    server, id, node = fed.server, fed.id(), fed.nodes["tax1"]
    values = {p: Quantised({"w": np.full(6, i, np.uint32)}) for i, p in enumerate(fed.names)}
    data = server.round(id, fed.names, LAYOUT, b"m")
    for p in fed.names[:4]:
        upload = fed.upload(p, data, values[p])
        if p == "tax1":
            keep(lambda bad: server.add(id, "tax1", bad), upload)
            upload = damage(upload)
        server.add(id, p, upload)
    survivors = server.survivors(id)
    agrees = {p: fed.nodes[p].handle(survivors) for p in fed.names[:4] if p != "tax1"}
    agrees["tax1"] = node.handle(damage(survivors))
    keep(lambda bad: server.agree(id, "tax1", bad), agrees["tax1"])
    for p, agreed in agrees.items():
        server.agree(id, p, damage(agreed) if p == "tax1" else agreed)
    requests = server.requests(id)
    keep(node.handle, requests["tax1"])
    reveals = {p: fed.nodes[p].handle(damage(m) if p == "tax1" else m) for p, m in requests.items()}
    keep(lambda bad: server.reveal(id, "tax1", bad), reveals["tax1"])
    for p, revealed in reveals.items():
        server.reveal(id, p, damage(revealed) if p == "tax1" else revealed)
    return server.open(id)


@pytest.fixture(scope="module")
def recorded(federate):
    seen = {}
    run(federate, lambda data: seen.setdefault(message_type(data), data))
    return seen


def test_all_types_within_their_sizes_and_canonical(recorded, federate):
    roster = federate(5, profile="resilient").roster
    assert set(recorded) == {"ResilientUpload", "Survivors", "Agree", "Open", "Reveal"}
    assert set(recorded) & FROM_NODE == {"ResilientUpload", "Agree", "Reveal"}
    for kind, data in recorded.items():
        assert len(data) <= MAX_SIZE[kind]
        message = getattr(messages, kind).decode(data, roster)
        assert message.encode() == data
        assert "shares=" not in repr(message)


def test_every_byte_flip_is_refused_where_it_arrives(federate):
    kinds = []

    def attack(consume, data):
        kinds.append(message_type(data))
        for at in range(len(data)):
            bad = bytearray(data)
            bad[at] ^= 1 << (at % 8)
            with pytest.raises(ProtocolError) as refused:
                consume(bytes(bad))
            assert refused.value.code in CODES

    assert run(federate, lambda data: data, attack).values["w"].tolist() == [0 + 1 + 2 + 3] * 6
    assert kinds == ["ResilientUpload", "Agree", "Open", "Reveal"]


def test_every_byte_flip_in_survivors_ends_the_protocol(federate, recorded):
    """Sampled: some are refused by the node; if one names another valid set, the coordinator refuses what is signed."""
    for at in range(0, len(recorded["Survivors"]), 4):

        def damage(data, at=at):
            if message_type(data) != "Survivors":
                return data
            bad = bytearray(data)
            bad[at] ^= 1 << (at % 8)
            return bytes(bad)

        with pytest.raises(ProtocolError) as refused:
            run(federate, damage)
        assert refused.value.code in CODES


@pytest.mark.parametrize("kind", ["ResilientUpload", "Survivors", "Agree", "Open", "Reveal"])
@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: b""], ids=["cut", "grown", "empty"]
)
def test_other_lengths_are_refused(federate, kind, change):
    with pytest.raises(ProtocolError):
        run(federate, lambda data: change(data) if message_type(data) == kind else data)
