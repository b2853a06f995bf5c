"""A coordinator that sends other weights than what follows from the plan and the signed uploads, in every way we know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedprofile.governance.audit import heads_root
from fedprofile.messages import Envelope
from fedprofile.models.layout import parameters
from fedprofile.node import recompute
from fedprofile.secagg.messages import Round, Upload
from fedprofile.secagg.wire import claims
from fedprofile.types import canonical

PARTIES = ("bank", "ecommerce", "tax")


def parts_of(request):
    return Envelope.decode(request).parts


def split(request):
    """(requests and models, relayed uploads)."""
    parts = parts_of(request)
    return [p for p in parts if not claims(p, "Upload")], [p for p in parts if claims(p, "Upload")]


def refused_untouched(world, party, monkeypatch, *parts, type_="round"):
    """The code with which a freshly started node refuses; it has read no row and its training stands where it stood."""
    world.nodes.clear()
    home, reads = world.home(party), []
    before = {p.name: p.read_bytes() for p in home.run.iterdir() if p.suffix in (".safetensors", ".json")}
    with monkeypatch.context() as patch:
        patch.setattr("fedprofile.node.run.read_permitted", lambda *_: reads.append(party))
        reply = world.ask(party, type_, {}, *parts)
    assert not reads
    assert {p.name: p.read_bytes() for p in home.run.iterdir() if p.name in before} == before
    code = reply.body.get("code")
    journal = list(world.node(party).journal)
    assert code is None or journal[-1] == {"event": "refused", "code": code}
    return code


def changed_model(world, request, part=0, by=None):
    """The model of a request with the lowest bit of one weight turned, or changed ``by`` a function."""
    own, _ = split(request)
    round = Round.decode(own[part], world.job.roster)
    sent = bytes(round.model)
    weights = load(sent)
    name = "trunk.heads.bias" if "trunk.heads.bias" in weights else sorted(weights)[0]
    flat = weights[name].view(np.uint32)
    flat[(0,) * flat.ndim] ^= 1
    head = {}
    if part:
        length = int.from_bytes(sent[:8], "little")
        head = json.loads(sent[8 : 8 + length])["__metadata__"]
    model = save(by(load(sent)) if by else weights, metadata=head or None)
    return replace(round, model=model).encode()


def imprint(weights):
    """Robbing the Fed (Fowl et al. 2022): equal rows with rising thresholds, so that each bin of a sum holds few rows."""
    hidden, bias = weights["trunk.hidden.weight"], weights["trunk.hidden.bias"]
    hidden[:] = np.random.default_rng(0).normal(size=hidden.shape[1])[None, :, None]
    bias[:] = -np.linspace(-2, 2, bias.shape[-1])
    return weights


@pytest.fixture
def second(world):
    """The world after round 1, and the requests of round 2."""
    return world, world.drive(until="round", times=2)


@pytest.mark.parametrize("crafted", [None, imprint], ids=["one bit", "imprint"])
def test_a_crafted_first_model_is_refused_before_a_row_is_read(ready, monkeypatch, crafted):
    world, requests = ready
    for party in PARTIES:
        request = changed_model(world, requests[party], by=crafted)
        assert refused_untouched(world, party, monkeypatch, request) == "not_recomputed"


def test_without_recompute_the_crafted_first_model_is_taken(tiny_config, build_world, tmp_path):
    """The positive control: what the check above prevents works where it is off."""
    config = tiny_config()
    config.secure.verify = "none"
    world = build_world(tmp_path, config, PARTIES)
    requests = world.drive(until="round")
    assert not world.job.plan.recompute
    for party in PARTIES:
        reply = world.ask(party, "round", {}, changed_model(world, requests[party], by=imprint))
        assert (reply.type, len(reply.parts)) == ("uploads", 1)


@pytest.mark.parametrize("party", PARTIES)
def test_altered_weights_and_a_false_sum_are_refused(second, monkeypatch, party):
    world, requests = second
    _, uploads = split(requests[party])
    one_step = 2 * 2**-15

    def false_sum(weights):
        return {n: w + np.float32(one_step) for n, w in weights.items()}

    for by in (None, false_sum, imprint):
        request = changed_model(world, requests[party], by=by)
        assert refused_untouched(world, party, monkeypatch, request, *uploads) == "not_recomputed"


@pytest.mark.parametrize("party", PARTIES)
def test_uploads_dropped_repeated_swapped_or_made_up_are_refused(second, monkeypatch, party):
    world, requests = second
    own, (a, b, c) = split(requests[party])
    altered = Upload.decode(b, world.job.roster)
    altered = replace(altered, y=bytes([altered.y[0] ^ 1]) + bytes(altered.y[1:])).encode()
    cases = {
        "dropped": ([a, c], "unknown_party"),
        "last dropped": ([a, b], "missing_member"),
        "all dropped": ([], "missing_member"),
        "repeated": ([a, b, b], "unknown_party"),
        "added twice": ([a, b, c, c], "duplicate"),
        "swapped": ([b, a, c], "unknown_party"),
        "altered": ([a, altered, c], "bad_root"),
        "cut": ([a, b[:-2], c], "wrong_length"),
    }
    found = {}
    for name, (uploads, _) in cases.items():
        found[name] = refused_untouched(world, party, monkeypatch, *own, *uploads)
    assert found == {name: code for name, (_, code) in cases.items()}


def attempts(world, requests):
    """Round 1 asked twice: each node's answers to attempts 0 and 1, as the coordinator hands them on."""
    roster, found = world.job.roster, []
    for attempt in (0, 1):
        uploads = {}
        for party, request in requests.items():
            round = Round.decode(parts_of(request)[0], roster)
            asked = replace(round, id=replace(round.id, attempt=attempt)).encode()
            uploads[party] = world.ask(party, "round", {}, asked).parts[0]
        found.append([uploads[p] for p in round.cohort])
    return round, found


def test_uploads_of_another_attempt_are_refused_and_those_of_the_last_one_count(ready, monkeypatch):
    world, requests = ready
    round, (first, last) = attempts(world, requests)
    run = world.node("tax").run
    basis = recompute.read_basis(run)
    model = save(recompute._next(run, basis, last)["update"])
    layout = recompute.planned(run, "update", 2).layout
    root = heads_root({u.party: u.audit_head for u in (Upload.decode(part, world.job.roster) for part in last)})
    id = replace(round.id, t=2, attempt=1)
    request = replace(round, id=id, layout=layout, model=model, audit_head=root).encode()
    for party in PARTIES:
        assert refused_untouched(world, party, monkeypatch, request, *first) == "wrong_round"
        mixed = [first[0], *last[1:]]
        assert refused_untouched(world, party, monkeypatch, request, *mixed) == "wrong_round"
        world.nodes.clear()
        assert world.ask(party, "round", {}, request, *last).type == "uploads"


def test_a_retry_of_a_round_is_about_the_weights_that_were_recomputed_for_it(second, monkeypatch, change):
    world, requests = second
    for party in PARTIES:
        own, uploads = split(requests[party])
        assert world.ask(party, "round", {}, *own, *uploads).type == "uploads"
        again = change(world, requests[party], attempt=1)
        world.nodes.clear()
        assert world.ask(party, "round", {}, again).type == "uploads"


def test_a_node_that_refused_goes_on_with_the_honest_round(second, monkeypatch, change):
    world, requests = second
    own, uploads = split(requests["tax"])
    assert refused_untouched(world, "tax", monkeypatch, *own, *uploads[1:]) == "unknown_party"
    assert world.ask("tax", "round", {}, change(world, requests["tax"], attempt=1), *uploads).type == "uploads"


def test_a_round_cannot_be_skipped(ready, monkeypatch):
    """Without its own H of the round before, a node has nothing to hold the uploads against."""
    world, requests = ready
    round = Round.decode(parts_of(requests["tax"])[0], world.job.roster)
    layout = recompute.planned(world.node("tax").run, "update", 2).layout
    request = replace(round, id=replace(round.id, t=2), layout=layout).encode()
    assert refused_untouched(world, "tax", monkeypatch, request) == "wrong_round"


def test_the_last_sum_is_recomputed_too(world, monkeypatch):
    requests = world.drive(until="round", times=3)
    for party in PARTIES:
        (request, model), uploads = split(requests[party])
        weights = {n: w + np.float32(2**-10) for n, w in load(model).items()}
        false = save(weights)
        bound = replace(
            Round.decode(request, world.job.roster), model=canonical({"": hashlib.sha256(false).hexdigest()})
        ).encode()
        assert refused_untouched(world, party, monkeypatch, bound, false, *uploads) == "not_recomputed"
        assert refused_untouched(world, party, monkeypatch, request, model, *uploads[:2]) == "missing_member"


def test_the_label_owner_takes_no_other_model_home(world, monkeypatch):
    requests = world.drive(until="finish", times=2)
    (model,) = parts_of(requests["bank"])
    false = save({n: w + np.float32(1) for n, w in load(model).items()})
    assert refused_untouched(world, "bank", monkeypatch, false, type_="finish") == "not_recomputed"
    assert world.home("bank").read("shared.safetensors") is None
    assert Envelope.decode(world.node("bank").handle(requests["bank"])).type == "finished"


def test_a_role_recomputes_its_own_encoder_and_nobody_elses(roles, monkeypatch):
    requests = roles.drive(until="round", times=4)
    kinds = {}
    for party, request in requests.items():
        ids = [Upload.decode(u, roles.job.roster).id for u in split(request)[1]]
        kinds[party] = {(i.kind, i.scope): sum((j.kind, j.scope) == (i.kind, i.scope) for j in ids) for i in ids}
    assert kinds["bank"] == {("update", ""): 7}
    assert kinds["tax-1"] == {("update", ""): 7, ("role", "tax"): 3}
    for party in ("tax-1", "tax-3", "ecommerce-2"):
        (update, role), uploads = split(requests[party])
        false = changed_model(roles, requests[party], part=1)
        assert refused_untouched(roles, party, monkeypatch, update, false, *uploads) == "not_recomputed"
        assert refused_untouched(roles, party, monkeypatch, update, role, *uploads[:-1]) == "missing_member"
        assert refused_untouched(roles, party, monkeypatch, update, role, *uploads[7:]) == "missing_member"


def test_uploads_of_a_sum_that_changes_no_weights_here_are_refused(roles, monkeypatch):
    requests = roles.drive(until="round", times=4)
    own, uploads = split(requests["bank"])
    foreign = split(requests["tax-1"])[1][7:]
    assert refused_untouched(roles, "bank", monkeypatch, *own, *uploads, *foreign) == "wrong_round"


def test_a_roles_first_encoder_comes_from_the_seed(roles_ready, monkeypatch):
    world, requests = roles_ready
    update, _ = parts_of(requests["tax-1"])
    false = changed_model(world, requests["tax-1"], part=1)
    assert refused_untouched(world, "tax-1", monkeypatch, update, false) == "not_recomputed"


def test_shared_bins_are_recomputed_by_the_roles_members(roles, monkeypatch):
    requests = roles.drive(until="bins")
    for party, request in requests.items():
        counts, *uploads = parts_of(request)
        assert len(uploads) == 3
        false = load(counts)
        next(iter(false.values()))[0] += 1
        assert refused_untouched(roles, party, monkeypatch, save(false), *uploads, type_="bins") == "not_recomputed"
        assert refused_untouched(roles, party, monkeypatch, counts, *uploads[1:], type_="bins") == "unknown_party"
        assert roles.home(party).read("bins") is None
        assert roles.ask(party, "bins", {}, counts, *uploads).type == "bins-stored"
        assert roles.ask(party, "bins", {}, counts).type == "bins-stored"  # after a restart, without uploads


def test_uploads_are_not_read_where_the_plan_does_not_ask_for_them(tiny_config, build_world, tmp_path):
    config = tiny_config()
    config.secure.verify = "none"
    world = build_world(tmp_path, config, PARTIES)
    requests = world.drive(until="round", times=2)
    own, uploads = split(requests["tax"])
    assert not uploads
    reply = world.ask("tax", "round", {}, *own, parts_of(world.node("bank").handle(requests["bank"]))[0])
    assert reply.body == {"code": "bad_envelope"}


@pytest.mark.parametrize("share", ["all", "role"])
def test_what_nodes_work_out_is_what_the_coordinator_keeps(tiny_config, build_world, tmp_path, share):
    config = tiny_config(share=share)
    config.data.members = 3
    world = build_world(tmp_path, config, PARTIES)
    outcome = world.drive()
    for party, home in world.homes.items():
        basis = recompute.read_basis(world.restart(party).run)
        role = home.config.role
        kept = {"update": outcome.shared if share == "all" else None, "role": outcome.encoders.get(role)}
        expected = {k: w for k, w in kept.items() if w}
        assert (basis.t, basis.models.keys()) == (3, expected.keys())
        assert all(recompute._same(basis.models[k], w) for k, w in expected.items())


def test_an_encoder_that_is_too_large_to_recompute_is_refused_with_the_bins(roles, monkeypatch):
    """Its size is known with the bins only; trunk and heads alone were within the bound."""
    plan = roles.job.plan
    trunk = parameters(plan.tasks, plan.learning)
    party, request = next((p, r) for p, r in roles.drive(until="bins").items())
    with monkeypatch.context() as patch:
        patch.setattr(recompute, "RECOMPUTED_PARAMETERS", trunk)
        refused = refused_untouched(roles, party, monkeypatch, *parts_of(request), type_="bins")
    assert refused == "too_large_to_recompute"
    assert roles.home(party).read("bins") is None
    assert roles.ask(party, "bins", {}, *parts_of(request)).type == "bins-stored"


def test_uploads_without_weight_change_nothing(second, monkeypatch):
    """Every node's part of the count is one; here the sum that the coordinator relays is taken for another."""
    world, requests = second
    monkeypatch.setattr(recompute, "recompute", lambda *_: {"meta": np.zeros(5)})
    assert refused_untouched(world, "tax", monkeypatch, *parts_of(requests["tax"])) == "zero_weight"
