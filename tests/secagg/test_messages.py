"""Every message: round trip, every byte flip ends in an error, sizes, unknown versions and types."""

from __future__ import annotations

import os

import pytest

from fedprofile.errors import ProtocolError, RemoteProtocolError
from fedprofile.secagg import messages
from fedprofile.secagg.codes import CODES, remote
from fedprofile.secagg.messages import (
    FROM_NODE,
    MAX_SIZE,
    KeyAd,
    expected_key_ad_size,
    expected_key_open_size,
    expected_masked_sum_size,
    expected_upload_size,
    message_type,
)
from fedprofile.secagg.transcript import split
from fedprofile.types import Layout, Segment

RESILIENT = {"ResilientUpload", "Survivors", "Agree", "Open", "Reveal"}  # test_resilient_messages
SCORE = Layout((Segment("scores", (40,), 16, 8.0, 1 / 16),))


class Whole:
    """One set-up, one update round, one score round and a complaint; each message may be damaged on its way."""

    def __init__(self, federate, layout):
        self.federate, self.layout = federate, layout
        fed = federate(3)
        self.update = fed.integers(layout)
        self.scores = {p: q for p, q in fed.integers(SCORE).items() if p != "bank"}

    def run(self, damage, keep=lambda consume, data: None):
        """``keep`` gets, for each message whose refusal leaves its receiver as it was, that receiver and the bytes."""
        fed = self.federate(3)
        request = damage(fed.server.setup_request())
        ads = {p: s.handle(request) for p, s in fed.nodes.items()}
        keep(lambda bad: fed.server.key_bundle(ads | {"tax1": bad}), ads["tax1"])
        bundle = damage(fed.server.key_bundle(ads | {"tax1": damage(ads["tax1"])}))
        opens = {p: s.handle(bundle) for p, s in fed.nodes.items()}
        keep(lambda bad: fed.server.open_bundle(opens | {"tax1": bad}), opens["tax1"])
        opened = damage(fed.server.open_bundle(opens | {"tax1": damage(opens["tax1"])}))
        assert [s.handle(opened) for s in fed.nodes.values()] == [None] * 3
        uploads = fed.uploads(damage(fed.server.round(fed.id(), fed.names, self.layout, b"model")), self.update)
        keep(lambda bad: fed.server.add(fed.id(), "tax1", bad), uploads["tax1"])
        fed.server.open(fed.id(), uploads | {"tax1": damage(uploads["tax1"])})
        data = fed.server.round(fed.id("score"), fed.names, SCORE, b"")
        masked = fed.server.masked_sum(fed.id("score"), fed.uploads(data, self.scores))
        bank, round = fed.nodes["bank"], fed.nodes["bank"].verify_round(data)
        keep(lambda bad: bank.open_sum(bad, round), masked)
        bank.open_sum(damage(masked), round)
        complaint = fed.nodes["tax1"].complaint(remote("bad_root"), b"x")
        keep(fed.server.complaint, complaint)
        assert fed.server.complaint(damage(complaint)).code == "bad_root"


@pytest.fixture(scope="module")
def whole(federate, layout):
    return Whole(federate, layout)


@pytest.fixture(scope="module")
def recorded(whole):
    seen = {}
    whole.run(lambda data: seen.setdefault(message_type(data), data))
    return seen


def flipped(data, at):
    bad = bytearray(data)
    bad[at] ^= 1 << (at % 8)
    return bytes(bad)


def test_all_types_are_seen_within_their_sizes(recorded, layout):
    assert set(recorded) == set(MAX_SIZE) - RESILIENT
    assert set(MAX_SIZE) > FROM_NODE
    assert all(len(data) <= MAX_SIZE[kind] for kind, data in recorded.items())
    exact = {
        "KeyAd": expected_key_ad_size(),
        "KeyOpen": expected_key_open_size(),
        "Upload": expected_upload_size(layout),
        "MaskedSum": expected_masked_sum_size(SCORE),
    }
    assert all(len(recorded[kind]) == size for kind, size in exact.items())


def test_every_byte_flip_is_refused_where_it_arrives(whole):
    """KeyAd, KeyOpen, Upload, MaskedSum, Complaint: all positions, the vector y included."""
    kinds = []

    def attack(consume, data):
        kinds.append(message_type(data))
        for at in range(len(data)):
            with pytest.raises(ProtocolError) as refused:
                consume(flipped(data, at))
            assert refused.value.code in CODES

    whole.run(lambda data: data, attack)
    assert kinds == ["KeyAd", "KeyOpen", "Upload", "MaskedSum", "Complaint"]


@pytest.mark.parametrize(("kind", "step"), [("SetupReq", 1), ("KeyBundle", 3), ("OpenBundle", 3), ("Round", 5)])
def test_every_byte_flip_downwards_ends_the_protocol(whole, recorded, kind, step):
    """Sampled, each with a whole protocol run: some flips are refused by a node, the others by what it signs."""
    for at in range(0, len(recorded[kind]), step):
        with pytest.raises(ProtocolError) as refused:
            whole.run(lambda data, at=at: flipped(data, at) if message_type(data) == kind else data)
        assert refused.value.code in CODES


@pytest.mark.parametrize("kind", sorted(set(MAX_SIZE) - RESILIENT))
@pytest.mark.parametrize("change", ["cut", "grown", "empty"])
def test_other_lengths_are_refused(whole, kind, change):
    changed = {"cut": lambda d: d[:-1], "grown": lambda d: d + b"\0", "empty": lambda d: b""}[change]
    with pytest.raises(ProtocolError):
        whole.run(lambda data: changed(data) if message_type(data) == kind else data)


def test_version_type_and_size_are_checked(recorded, federate):
    roster, ad = federate(3).roster, recorded["KeyAd"]
    for bad, code in [
        (ad[:4] + b"\2" + ad[5:], "unknown_version"),
        (ad[:5] + b"\xff" + ad[6:], "unknown_type"),
        (b"fps2" + ad[4:], "malformed"),
        (recorded["KeyOpen"], "wrong_type"),
        (ad + bytes(5000), "too_large"),
    ]:
        with pytest.raises(RemoteProtocolError) as refused:
            KeyAd.decode(bad, roster)
        assert refused.value.code == code
    with pytest.raises(RemoteProtocolError):
        split(os.urandom(64))


def test_decoding_is_canonical_and_shows_no_vector(recorded, federate):
    roster = federate(3).roster
    for kind, data in recorded.items():
        message = getattr(messages, kind).decode(data, roster)
        assert message.encode() == data
        assert "memory" not in repr(message)
        assert "model=" not in repr(message)


def test_codes_are_fixed_identifiers():
    assert all(code == code.lower() and " " not in code for code in CODES)
    with pytest.raises(KeyError):
        remote("free text")
