import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedprofile.aggregation import gain_layout, score_layout
from fedprofile.messages import Envelope
from fedprofile.node.rounds import tensors
from fedprofile.secagg.encoding import vectors
from fedprofile.secagg.round_messages import Round, Upload
from fedprofile.types import Layout, canonical


def code(world, party, *parts):
    return world.ask(party, "round", {}, *parts).body.get("code")


def parts_of(request):
    return Envelope.decode(request).parts


def total(world, replies, layout):
    """Sum of masked uploads, ring by ring: what the coordinator adds."""
    sums = {}
    for reply in replies:
        upload = Upload.decode(Envelope.decode(reply).parts[0], world.job.roster)
        for ring, y in vectors(bytearray(upload.y), layout).items():
            sums[ring] = sums.get(ring, np.zeros_like(y)) + y
    return {ring: s.tobytes() for ring, s in sums.items()}


def answers(world, requests, change, attempt):
    found = {p: Envelope("round", {}, (change(world, r, attempt=attempt),)).encode() for p, r in requests.items()}
    return {p: world.node(p).handle(r) for p, r in found.items()}


def test_a_retry_uploads_the_same_integers_under_new_masks_and_trains_once(ready, change, monkeypatch):
    from fedprofile.models.learner import LocalLearner

    world, requests = ready
    trained, run_round = [], LocalLearner.run_round
    monkeypatch.setattr(LocalLearner, "run_round", lambda self, t: trained.append(t) or run_round(self, t))
    layout = Round.decode(parts_of(requests["tax"])[0], world.job.roster).layout
    first, second = (answers(world, requests, change, attempt) for attempt in (0, 1))
    assert total(world, first.values(), layout) == total(world, second.values(), layout)
    assert all(first[p] != second[p] for p in first)
    assert trained == [1] * len(requests)


def test_a_restarted_node_retries_with_the_same_integers(ready, change):
    world, requests = ready
    layout = Round.decode(parts_of(requests["tax"])[0], world.job.roster).layout
    first = answers(world, requests, change, 0)
    world.nodes.clear()
    assert total(world, answers(world, requests, change, 1).values(), layout) == total(world, first.values(), layout)


def test_a_retry_about_another_model_is_refused(ready, change):
    world, requests = ready
    assert code(world, "tax", *parts_of(requests["tax"])) is None
    model = {
        n: w + 1 for n, w in load(bytes(Round.decode(parts_of(requests["tax"])[0], world.job.roster).model)).items()
    }
    assert code(world, "tax", change(world, requests["tax"], attempt=1, model=save(model))) == "retry_differs"
    assert code(world, "tax", change(world, requests["tax"])) == "stale_round"


def test_a_round_that_the_plan_does_not_imply_is_refused_before_training(ready, change):
    world, requests = ready
    request = requests["tax"]
    layout = Round.decode(parts_of(request)[0], world.job.roster).layout
    other = Layout((*layout.segments[1:], layout.segments[0]))
    cases = {
        "wrong_layout": [{"layout": other}, {"layout": Layout(layout.segments[:-1])}, {"t": 2}],
        "wrong_kind": [{"t": 9}, {"kind": "stats", "t": 1}],
        "stale_round": [{"t": 0}],
        "cohort_refused": [{"kind": "role", "scope": "tax"}],
        "wrong_spine": [{"spine_hash": bytes(32)}],
        "wrong_policy": [{"policy_hash": bytes(32)}],
        "bad_model": [{"model": b""}, {"model": b"x"}, {"model": save({"a": np.zeros(2, np.float32)})}],
        "wrong_opener": [{"opener": "bank"}],
        "too_few_hidden": [{"cohort": ("tax", "bank")}, {"cohort": ("bank", "tax")}],
    }
    refused = {}
    for expected, changes in cases.items():
        for fields in changes:
            world.nodes.clear()
            refused[expected, str(fields)[:60]] = code(world, "tax", change(world, request, **fields))
    wrong_order = {"malformed", "wrong_order"}  # one of the two cohorts is not in wire order
    assert {k: v for k, v in refused.items() if v != k[0] and v not in wrong_order} == {}
    assert world.home("tax").read("training.safetensors") is None


def test_a_round_out_of_turn_is_refused(world, ready):
    """Simulated secrets are the same in both copies, so the one's second round verifies in the other."""
    second = world.drive(until="round", times=2)
    assert code(ready[0], "tax", *parts_of(second["tax"])) == "wrong_round"


def test_the_weights_must_be_those_that_the_round_names(ready):
    world, requests = ready
    forged = bytearray(parts_of(requests["tax"])[0])
    forged[-1] ^= 1
    assert code(world, "tax", bytes(forged)) == "bad_model_hash"


def test_weights_that_are_not_finite_are_refused(ready, change):
    world, requests = ready
    model = load(bytes(Round.decode(parts_of(requests["tax"])[0], world.job.roster).model))
    model["trunk.heads.bias"] = np.full_like(model["trunk.heads.bias"], np.nan)
    assert code(world, "tax", change(world, requests["tax"], model=save(model))) == "bad_model"


def test_the_last_weights_must_be_those_that_the_weighing_is_bound_to(world):
    requests = world.drive(until="round", times=3)
    round, model, *uploads = parts_of(requests["tax"])
    assert Round.decode(round, world.job.roster).id.kind == "stats"
    assert code(world, "tax", round, model + b"\0", *uploads) == "bad_model_hash"


def test_scores_before_gains_are_refused(ready, change):
    world, requests = ready
    plan = world.job.plan
    layout = score_layout(world.node("tax").run.alignment.size, sum(t.outputs for t in plan.tasks))
    means = canonical({t.name: 1.0 for t in plan.tasks})
    fields = {"kind": "score", "t": plan.learning.rounds + 2, "opener": "bank", "layout": layout}
    assert code(world, "tax", change(world, requests["tax"], model=means, **fields)) == "no_scores"
    for model in (b"[]", b"{", canonical({"tier": 1.0})):
        world.nodes.clear()
        assert code(world, "tax", change(world, requests["tax"], model=model, **fields)) == "bad_request"
    assert code(world, "bank", change(world, requests["bank"], model=means, **fields)) == "wrong_kind"


def test_gains_before_the_last_round_are_refused(ready, change):
    world, requests = ready
    plan = world.job.plan
    model = Round.decode(parts_of(requests["tax"])[0], world.job.roster).model
    hashes = canonical({"": hashlib.sha256(model).hexdigest()})
    fields = {"kind": "stats", "t": plan.learning.rounds + 1, "layout": gain_layout(plan.tasks), "model": hashes}
    assert code(world, "tax", change(world, requests["tax"], **fields), model) == "wrong_round"


def test_training_without_labels_is_refused(ready):
    world, requests = ready
    world.home("tax").remove("release.bin")
    assert code(world, "tax", *parts_of(requests["tax"])) == "no_release"


def test_an_encoder_made_for_other_bins_is_refused(roles_ready, change):
    world, requests = roles_ready
    request = requests["tax-1"]
    update, role = parts_of(request)
    model = load(bytes(Round.decode(role, world.job.roster).model))
    foreign = change(world, request, 1, model=save(model, metadata={"bins": "0" * 64}))
    assert code(world, "tax-1", update, foreign) == "wrong_bins"
    world.nodes.clear()
    assert code(world, "tax-1", update) == "wrong_kind"


@pytest.mark.parametrize("model", [b"", b"\xff" * 9, b"\2" + bytes(7) + b"[]"])
def test_an_encoder_that_is_no_safetensors_is_refused(roles_ready, change, model):
    world, requests = roles_ready
    update, _ = parts_of(requests["tax-1"])
    assert code(world, "tax-1", update, change(world, requests["tax-1"], 1, model=model)) in ("bad_model", "wrong_bins")


def test_the_encoders_round_must_be_of_the_nodes_role(roles_ready):
    world, requests = roles_ready
    update, _ = parts_of(requests["tax-1"])
    _, foreign = parts_of(requests["ecommerce-1"])
    assert code(world, "tax-1", update, foreign) in ("wrong_kind", "cohort_refused")


def test_no_round_without_request(ready):
    assert code(ready[0], "tax") == "bad_envelope"


def test_only_safetensors_are_read(code_of):
    assert code_of(lambda: tensors(json.dumps({}).encode())) == "bad_model"
