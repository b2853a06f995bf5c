from dataclasses import replace

import numpy as np
import pytest

from fedprofile.coordinator.rounds import Watch
from fedprofile.errors import NodeFailed, ProtocolError, TrainingDiverged
from fedprofile.messages import REPLY_TO, Envelope
from fedprofile.node.encoders import finished_runs


def same(a, b):
    return set(a) == set(b) and all((a[n] == b[n]).all() for n in a)


def failing(world, type_, party, reply):
    """Every node answers, but ``party``'s answer to ``type_`` is replaced by ``reply``."""

    def via(to, request):
        own = world.node(to).handle(request)
        return reply.encode() if (Envelope.decode(request).type, to) == (type_, party) else own

    return via


def _rare(value):
    """A case like its neighbours, which `make nightly` alone goes through."""
    return pytest.param(value, marks=pytest.mark.nightly)


@pytest.mark.parametrize("share", ["all", "role", _rare("none")])
def test_a_whole_run(tiny_config, build_world, tmp_path, share):
    config = tiny_config(share=share)
    config.data.members = 3
    world = build_world(tmp_path, config, ("bank", "ecommerce", "tax"))
    outcome = world.drive()
    kinds = {(o["kind"], o["scope"]): o["count"] for o in outcome.openings}
    inside = {(k, r): n for r in ("ecommerce", "tax") for k, n in (("stats", 1), ("role", 2))}
    whole = {("update", ""): 2, ("stats", ""): 1, ("score", ""): 1}
    assert kinds == whole | (inside if share != "none" else {})
    assert [s["t"] for s in outcome.summaries] == [1, 2]
    assert set(outcome.encoders) == ({"ecommerce", "tax"} if share != "none" else set())
    assert ("trunk.heads.bias" in outcome.encoders.get("tax", {})) == (share == "role")


def test_a_run_without_masks_says_the_same(tiny_config, build_world, tmp_path):
    """Without masks no upload may be handed on, so neither run recomputes."""
    worlds = {}
    for profile in ("strict", "none"):
        config = tiny_config()
        config.secure.profile, config.secure.verify = profile, "none"
        worlds[profile] = build_world(tmp_path / profile, config, ("bank", "ecommerce", "tax"))
    assert worlds["strict"].job.plan == worlds["none"].job.plan
    masked, plain = (w.drive() for w in worlds.values())
    assert same(masked.shared, plain.shared)
    assert masked.summaries == plain.summaries


def test_the_sums_say_how_many_nodes_rows_and_losses(finished):
    world, outcome = finished
    sizes = [e["customers"] for e in world.node("bank").journal if e["event"] == "released"]
    for summary in outcome.summaries:
        assert (summary["nodes"], summary["rows"], summary["saturated"]) == (3, sum(sizes), 0)
        assert 0.5 < summary["loss.tier"] < 1.5


def test_every_opening_says_what_it_hid(roles):
    for opening in roles.drive().openings:
        others = {"update": 6, "role": 2, "stats": 2 if opening["scope"] else 6, "score": 6}
        assert opening["hidden"] == others[opening["kind"]]
        assert opening["opener"] == ("bank" if opening["kind"] == "score" else "")


def test_progress_is_stage_round_and_loss_alone(world):
    seen, rounds = [], []
    world.drive(world.exchange(Watch(seen.append, lambda t, values: rounds.append((t, sorted(values))))))
    assert list(dict.fromkeys(p.stage for p in seen)) == [
        "approve",
        "keys",
        "align",
        "release",
        "rounds",
        "weights",
        "scores",
    ]
    assert rounds == [(t, ["loss.invest", "loss.tier", "nodes", "rows", "saturated"]) for t in (1, 2)]


@pytest.mark.parametrize(
    "type_", ["plan", "setup", "align", "align-match", "align-store", "release", "round", "finish"]
)
def test_a_nodes_error_stops_the_run_and_names_the_node(world, type_):
    reply = Envelope("error", {"code": "internal_error"})
    with pytest.raises(NodeFailed) as error:
        world.drive(via=failing(world, type_, "tax", reply))
    assert (error.value.node, error.value.code) == ("tax", "internal_error")


def test_divergence_names_node_layer_and_round(world):
    reply = Envelope("error", {"code": "training_diverged", "layer": "encoder.first.weight", "t": 1})
    with pytest.raises(TrainingDiverged) as error:
        world.drive(via=failing(world, "round", "tax", reply))
    assert (error.value.node, error.value.layer, error.value.t) == ("tax", "encoder.first.weight", 1)


def test_a_node_that_does_not_answer_is_named(world):
    exchange = world.exchange()
    requests = next(exchange)
    with pytest.raises(NodeFailed) as error:
        exchange.send({p: world.node(p).handle(r) for p, r in requests.items() if p != "tax"})
    assert (error.value.node, error.value.code) == ("tax", "no_answer")


@pytest.mark.parametrize(("type_", "party"), [("setup", "tax"), ("align", "tax"), ("align-spine", "bank"), ("align-match", "tax"), ("align-views", "bank"),
                                             ("round", "tax"), ("release-request", "bank")])  # fmt: skip
@pytest.mark.parametrize("wrong", ["another type", "no parts"])
def test_a_wrong_reply_names_the_node(world, type_, party, wrong):
    reply = Envelope("ready" if wrong == "another type" else REPLY_TO[type_])
    with pytest.raises(NodeFailed) as error:
        world.drive(via=failing(world, type_, party, reply))
    assert (error.value.node, error.value.code) == (party, "wrong_reply")


def test_an_approval_that_the_node_did_not_sign_is_refused(world):
    reply = Envelope("approval", {"plan": world.job.plan.hash.hex()}, (bytes(64),))
    with pytest.raises((NodeFailed, ProtocolError)):
        world.drive(via=failing(world, "plan", "tax", reply))


def test_a_word_on_an_encoder_that_the_node_did_not_sign_names_it_and_the_run_goes_on(world, finished):
    reply = Envelope("finished", {"encoder": "00" * 32}, (bytes(64),))
    with pytest.raises(NodeFailed) as error:
        world.drive(via=failing(world, "finish", "tax", reply))
    assert (error.value.node, error.value.code) == ("tax", "bad_acknowledgement")
    assert finished_runs(world.home("bank")) == []
    world.nodes.clear()
    world.drive()
    assert finished_runs(world.home("bank")) == finished_runs(finished[0].home("bank"))


def test_bytes_that_are_no_message_name_the_node(world):
    with pytest.raises(NodeFailed) as error:
        world.drive(via=lambda party, request: b"x" if party == "tax" else world.node(party).handle(request))
    assert error.value.node == "tax"


def test_nodes_restarted_before_every_later_message_go_on_bit_by_bit(world, finished):
    _, expected = finished

    def via(party, request):
        late = Envelope.decode(request).type.startswith("align") or Envelope.decode(request).type in (
            "release",
            "round",
            "score-sum",
            "finish",
        )
        return (world.restart(party) if late else world.node(party)).handle(request)

    outcome = world.drive(via=via)
    assert same(outcome.shared, expected.shared)
    assert outcome.summaries == expected.summaries
    sums = [w.home("bank").read_arrays("score_sum.safetensors")["sums"] for w in (world, finished[0])]
    assert (sums[0] == sums[1]).all()


@pytest.mark.parametrize(
    "stop",
    [
        ("align", 1),
        _rare(("align-spine", 1)),
        _rare(("align-match", 1)),
        ("align-views", 1),
        _rare(("align-store", 1)),
        ("release", 1),
        _rare(("round", 1)),
        ("round", 2),
        ("round", 3),
        _rare(("round", 4)),
        ("score-sum", 1),
        _rare(("finish", 1)),
        _rare(("finish", 2)),
    ],
    ids=str,
)
def test_a_run_stopped_anywhere_goes_on_to_the_same_model(world, finished, stop):
    stopped_at = world.drive(until=stop[0], times=stop[1])
    for party, request in stopped_at.items():
        world.node(party).handle(request)  # the answers are lost
    world.nodes.clear()
    outcome = world.drive()
    assert same(outcome.shared, finished[1].shared)
    assert outcome.summaries == finished[1].summaries
    sums = [w.home("bank").read_arrays("score_sum.safetensors")["sums"] for w in (world, finished[0])]
    assert (sums[0] == sums[1]).all()


@pytest.mark.parametrize("times", [_rare(1), 2, _rare(4)])
def test_a_run_with_shared_encoders_goes_on_to_the_same_model(roles, roles_outcome, times):
    roles.drive(until="round", times=times)
    roles.nodes.clear()
    outcome = roles.drive()
    assert same(outcome.shared, roles_outcome.shared)
    assert all(same(w, roles_outcome.encoders[r]) for r, w in outcome.encoders.items())


@pytest.fixture(scope="module")
def roles_outcome(_built, tmp_path_factory):
    import shutil

    root = tmp_path_factory.mktemp("whole") / "roles"
    shutil.copytree(_built(3).root, root)
    return replace(_built(3), root=root, nodes={}).drive()


def test_equal_runs_are_equal_byte_by_byte(world, finished):
    outcome = world.drive()
    assert all(np.array_equal(outcome.shared[n], w) for n, w in finished[1].shared.items())
    assert outcome.wire.up == finished[1].wire.up


@pytest.mark.parametrize("stage", ["key-bundle", "open-bundle", "release-request", "release", "round", "score-sum"])
def test_a_node_whose_keys_died_makes_all_agree_new_ones(world, finished, stage):
    """Real session keys are in memory only: after a restart within a run the same integers go under new masks."""
    for home in world.homes.values():
        node = home.path / "node.json"
        node.write_text(node.read_text().replace('"secrets": "simulated"', '"secrets": "own"'))
    restarted = []
    party = "bank" if stage in ("release-request", "score-sum") else "tax"

    def via(to, request):
        if (to, Envelope.decode(request).type) == (party, stage) and not restarted:
            restarted.append(world.restart(to))
        return world.node(to).handle(request)

    outcome = world.drive(via=via)
    assert restarted
    assert same(outcome.shared, finished[1].shared)
    assert outcome.summaries == finished[1].summaries
    assert "need_setup" in {entry.get("code") for entry in world.node(party).journal}
    assert [s["t"] for s in outcome.summaries] == [1, 2]


@pytest.mark.parametrize("type_", ["setup", "key-bundle", "round"])
def test_a_message_that_comes_twice_does_not_end_the_run(world, finished, type_):
    """The answer to the first one was lost on the way: refused, and all agree new keys."""
    doubled = []

    def via(to, request):
        answer = world.node(to).handle(request)
        if (to, Envelope.decode(request).type) == ("tax", type_) and not doubled:
            doubled.append(Envelope.decode(answer).type)
            return world.node(to).handle(request)
        return answer

    assert same(world.drive(via=via).shared, finished[1].shared)
    assert doubled


def test_a_node_that_never_keeps_its_keys_ends_the_run(world):
    """New keys are agreed a bounded number of times."""
    asked = []

    def via(to, request):
        asked.append(Envelope.decode(request).type)
        forgetful = to == "tax" and asked[-1] == "round"
        return Envelope("error", {"code": "need_setup"}).encode() if forgetful else world.node(to).handle(request)

    with pytest.raises(NodeFailed, match="need_setup"):
        world.drive(via=via)
    assert asked.count("setup") == 9 * 3
