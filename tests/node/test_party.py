import hashlib
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedprofile
from fedprofile.errors import LocalProtocolError, RemoteProtocolError, TrainingDiverged
from fedprofile.messages import DOWNWARD, MAX_BODY, UPWARD, Envelope
from fedprofile.privacy.sealing import LabelRelease, seal
from fedprofile.secagg.codes import CODES
from fedprofile.secagg.messages import Complaint
from fedprofile.types import Task

SECRET = "SECRET-4711"
ROOT = Path(fedprofile.__file__).parent


def code(world, party, *message):
    reply = world.ask(party, *message)
    assert set(reply.body) == {"code"}, reply
    return reply.body["code"]


def test_a_node_says_who_it_is(world):
    assert world.ask("tax", "identify").body == {"party": "tax"}


@pytest.mark.parametrize("data", [b"", b"x", b"fpm1", Envelope("plan").encode()[:-1], Envelope("plan").encode() + b"x"])
def test_what_is_no_message_gets_a_code(world, data):
    reply = Envelope.decode(world.node("tax").handle(data))
    assert (reply.type, reply.body) == ("error", {"code": "bad_envelope"})


@pytest.mark.parametrize("type_", [*UPWARD, "align-spine", "align-views", "release-request", "score-sum"])
def test_a_partner_answers_no_other_messages(world, type_):
    assert code(world, "tax", type_) == "not_for_this_node"


@pytest.mark.parametrize("type_", [t for t in DOWNWARD if t not in ("identify", "plan")])
def test_before_a_plan_nothing_is_answered(world, type_):
    reply = world.ask("bank", type_, {}, b"x")
    assert reply.type in ("error", "finished")
    assert all(Complaint.decode(part, world.job.roster).run_id == bytes(32) for part in reply.parts)


def test_a_plan_is_approved_by_a_signature_over_its_hash(world):
    from fedprofile.secagg.identity import verify

    reply = world.ask("tax", "plan", world.plan_body())
    assert reply.body == {"plan": world.job.plan.hash.hex()}
    verify(world.job.roster.party("tax").sign_pk, "approval", world.job.plan.hash, reply.parts[0])


def test_a_plan_that_the_node_does_not_want_is_refused(world):
    plan = world.job.plan
    cases = {
        "wrong_roster": replace(plan, roster_hash=bytes(32)),
        "align_mismatch": replace(plan, align="simulated"),
        "wrong_policy": replace(plan, policy_hash=bytes(32)),
        "task_refused": replace(plan, tasks=(Task("income", "binary", 2),)),
        "too_few_views": replace(plan, min_views=1),
        "unknown_start": replace(plan, start=b"\1" * 32),
    }
    assert {c: code(world, "tax", "plan", world.plan_body(p)) for c, p in cases.items()} == {c: c for c in cases}
    assert world.home("tax").read("plan.json") is None


def test_the_coordinator_cannot_switch_masks_off(world):
    body = world.plan_body() | {"profile": "none"}
    assert code(world, "tax", "plan", body) == "profile_mismatch"
    assert code(world, "tax", "setup", {}, b"x") == "no_plan"


@pytest.mark.parametrize(("profile", "refused"), [("none", "unmasked_uploads"), ("resilient", "not_recomputable")])
def test_only_strict_uploads_are_handed_on(world, profile, refused):
    file = world.home("tax").path / "node.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"profile": profile}))
    assert code(world, "tax", "plan", world.plan_body() | {"profile": profile}) == refused


def test_another_plan_forgets_what_the_last_one_left(finished):
    world, _ = finished
    world.ask("tax", "plan", world.plan_body())
    assert world.home("tax").read("release.bin") is not None
    world.ask("tax", "plan", world.plan_body(replace(world.job.plan, seed=1)))
    assert [p.name for p in world.home("tax").run.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    "error",
    [RuntimeError(SECRET), KeyError(SECRET), RemoteProtocolError("bad_request", SECRET)],
    ids=lambda e: type(e).__name__,
)
def test_an_error_crosses_as_a_fixed_code_whatever_it_quotes(world, caplog, error):
    def fail(_):
        raise error

    caplog.set_level(logging.INFO)
    node = world.node("tax")
    node.handlers["identify"] = fail
    reply = node.handle(Envelope("identify").encode())
    assert Envelope.decode(reply).body == {"code": getattr(error, "code", "internal_error")}
    assert SECRET.encode() not in reply
    if not isinstance(error, RemoteProtocolError):
        assert SECRET not in caplog.text
    assert SECRET not in (world.home("tax").path / "journal.jsonl").read_text() if node.journal.path.exists() else True


def test_a_value_of_a_row_in_an_exception_stays_at_home(ready, caplog):
    world, requests = ready
    run = world.node("tax").run
    run.table.columns["declared_income_cny"].dtype  # noqa: B018 (reads the table, so that it is the one trained on)
    run.table.columns["declared_income_cny"] = np.array([SECRET] * len(run.table), dtype=object)
    reply = world.node("tax").handle(requests["tax"])
    assert Envelope.decode(reply).body == {"code": "internal_error"}
    assert SECRET.encode() not in reply
    assert SECRET not in caplog.text


def test_divergence_is_reported_by_layer_and_round(world):
    def fail(_):
        raise TrainingDiverged("tax", "trunk.heads.bias", 3)

    world.node("tax").handlers["identify"] = fail
    body = {"code": "training_diverged", "layer": "trunk.heads.bias", "t": 3}
    assert world.ask("tax", "identify").body == body


def test_refusals_are_in_the_journal(world):
    code(world, "tax", "score-sum")
    assert list(world.node("tax").journal)[-1] == {"event": "refused", "code": "not_for_this_node"}


def test_a_refusal_is_a_signed_complaint_about_the_very_request(ready, change):
    world, requests = ready
    request = Envelope("round", {}, (change(world, requests["tax"], spine_hash=bytes(32)),)).encode()
    reply = Envelope.decode(world.node("tax").handle(request))
    (part,) = reply.parts
    complaint = Complaint.decode(part, world.job.roster)
    complaint.verify(world.job.roster)
    assert (complaint.party, complaint.code, complaint.run_id) == ("tax", "wrong_spine", world.job.plan.run_id)
    assert complaint.about == hashlib.sha256(request).digest()
    assert len(part) < 256


def test_what_this_node_did_wrong_is_no_complaint(world):
    def fail(_):
        raise LocalProtocolError("bad_values", "tensor 'w'")

    world.node("tax").handlers["identify"] = fail
    assert world.ask("tax", "identify") == Envelope("error", {"code": "bad_values"})


def test_every_code_that_a_node_answers_with_is_a_fixed_one():
    """A complaint with an unknown code is refused where it arrives, so the list has to be whole."""
    call = re.compile(r"(?:RemoteProtocolError|PolicyRefusal|remote|refusal)\(\s*\"(\w+)\"")
    rooms = [
        p for room in ("node", "label_owner", "privacy", "secagg", "alignment") for p in (ROOT / room).glob("*.py")
    ]
    files = [*rooms, ROOT / "messages.py", ROOT / "aggregation.py"]
    raised = {code for file in files for code in call.findall(file.read_text())}
    assert len(raised) > 20
    assert raised <= set(CODES)


def sealed(world, to, by="bank", **changes):
    """A release that ``by`` sealed and signed for one node."""
    node, session = world.node(by), world.node("bank").keeper.current
    held = LabelRelease.decode(world.home(to).read("release.bin"), world.job.plan.tasks)
    plain = replace(held, **changes).encode(world.job.plan.tasks)
    box = seal(plain, session.peer_seal_key(to), world.job.plan.hash, to)
    return box + node.identity.sign("label-release", box)


def test_a_second_release_must_be_the_first(ready):
    world, _ = ready
    assert world.ask("tax", "release", {}, sealed(world, "tax")).type == "labels-stored"
    priors = {"tier": (0.2, 0.3, 0.5), "invest": (0.5, 0.5)}
    assert code(world, "tax", "release", {}, sealed(world, "tax", priors=priors)) == "release_changed"


def test_labels_come_from_the_label_owner_for_this_node_alone(ready):
    world, _ = ready
    assert code(world, "tax", "release", {}, sealed(world, "tax", by="ecommerce")) == "bad_signature"
    assert code(world, "tax", "release", {}, sealed(world, "ecommerce")) == "bad_release"
    broken = bytearray(sealed(world, "tax"))
    broken[40] ^= 1
    assert code(world, "tax", "release", {}, bytes(broken)) == "bad_signature"
    assert code(world, "tax", "release", {}, b"short") == "bad_signature"
    assert code(world, "tax", "release", {}) == "bad_envelope"


def test_bins_are_frozen_once_training_began(roles_ready):
    world, requests = roles_ready
    from safetensors.numpy import save

    held = world.home("tax-1").read("bins")
    other = save({c: np.ones(1024) for c in world.job.plan.schemas["tax"].columns})
    world.node("tax-1").handle(requests["tax-1"])
    assert world.ask("tax-1", "bins", {}, other).type == "error"
    assert world.home("tax-1").read("bins") == held


def test_bins_that_are_none_are_refused_by_code(roles_ready):
    world, _ = roles_ready
    assert code(world, "tax-1", "bins", {}, b"x") == "bad_model"


def test_nothing_but_short_public_bodies_ever_leaves(world):
    """Every reply of a whole run: known type, canonical, at most 4 KiB beside its parts."""
    seen = {}

    def via(party, request):
        reply = Envelope.decode(world.node(party).handle(request))
        assert len(json.dumps(reply.body)) <= MAX_BODY
        assert len(reply.parts) <= UPWARD[reply.type]
        seen.setdefault(reply.type, set()).update(reply.body)
        return reply.encode()

    world.drive(via=via)
    assert {t: b for t, b in seen.items() if b} == {
        "approval": {"plan"},
        "spine": {"size", "hash"},
        "finished": {"encoder"},
    }


def test_the_journal_is_written_before_an_upload_leaves(ready):
    world, requests = ready
    world.node("tax").handle(requests["tax"])
    assert list(world.node("tax").journal)[-1]["event"] == "upload"
