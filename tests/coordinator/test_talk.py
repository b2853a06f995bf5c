"""One exchange: what a node answers when it refuses, and what the coordinator makes of it."""

from dataclasses import replace

import pytest

from fedprofile.coordinator.talk import Conversation
from fedprofile.coordinator.wire import Wire
from fedprofile.errors import NodeFailed
from fedprofile.messages import Envelope
from fedprofile.secagg.messages import Complaint


def failure(world, change=lambda reply: reply):
    """The coordinator's error after "tax" was asked for a round without a plan, its reply changed on the way."""
    talk = Conversation(world.job.roster, Wire()).ask({"tax": Envelope("round", {}, (b"x",))})
    request = next(talk)["tax"]
    reply = Envelope.decode(world.node("tax").handle(request))
    with pytest.raises(NodeFailed) as error:
        talk.send({"tax": change(reply).encode()})
    return error.value


def test_a_signed_complaint_is_verified_and_named(world):
    error = failure(world)
    assert (error.node, error.code) == ("tax", "no_plan")
    assert "signed complaint about the 'round'" in str(error)


def test_a_refusal_without_complaint_is_its_code_alone(world):
    error = failure(world, lambda reply: replace(reply, parts=()))
    assert (error.code, "signed" in str(error)) == ("no_plan", False)


def test_a_complaint_that_is_another_nodes_or_about_something_else_is_not_believed(world):
    def forged(**fields):
        def change(reply):
            signer = world.node(fields.get("party", "tax")).identity
            held = Complaint.decode(reply.parts[0], world.job.roster)
            return replace(reply, parts=(replace(held, **fields).signed(signer).encode(),))

        return change

    assert failure(world, forged()).code == "no_plan"
    for fields in ({"party": "bank"}, {"about": bytes(32)}, {"code": "bad_model"}):
        assert failure(world, forged(**fields)).code == "bad_complaint"
    flipped = lambda part: part[:-1] + bytes([part[-1] ^ 1])  # noqa: E731
    assert failure(world, lambda reply: replace(reply, parts=(flipped(reply.parts[0]),))).code == "bad_complaint"
    assert failure(world, lambda reply: replace(reply, parts=(b"x",))).code == "bad_complaint"


@pytest.mark.parametrize(
    "body",
    [
        {"code": "training_diverged", "layer": "loss", "t": "SECRET"},
        {"code": "training_diverged", "layer": "SECRET", "t": 1},
        {"code": "training_diverged", "layer": ["SECRET"], "t": [1]},
        {"code": "SECRET of a customer"},
        {"code": ["SECRET"]},
        {},
    ],
)
def test_a_nodes_own_words_are_not_repeated(world, body):
    error = failure(world, lambda _: Envelope("error", body))
    assert (error.node, error.code, "SECRET" in str(error)) == ("tax", "wrong_reply", False)


def test_equal_requests_are_encoded_once(world, monkeypatch):
    encoded, encode = [], Envelope.encode
    monkeypatch.setattr(Envelope, "encode", lambda self: encoded.append(self) or encode(self))
    same = Envelope("identify")
    requests = next(Conversation(world.job.roster, Wire()).ask({"bank": same, "tax": same}))
    assert requests["bank"] is requests["tax"]
    assert len(encoded) == 1
