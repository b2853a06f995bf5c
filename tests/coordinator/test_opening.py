"""A run in the resilient profile: nodes that give no answer in a round are done without, and take part again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from fedprofile.errors import NodeFailed, PolicyRefusal
from fedprofile.messages import Envelope

PARTIES = ("bank", "ecommerce", "tax")


def nine(config, profile):
    """bank and two roles of four; t = q = 5 of all, 3 of a role."""
    config.data.members, config.privacy.min_release = 4, 10
    config.secure.profile, config.secure.accept_differencing = profile, profile == "resilient"
    return config


@pytest.fixture(scope="module")
def built(build_world, tmp_path_factory):
    return lambda config, profile: build_world(tmp_path_factory.mktemp(profile), nine(config, profile), PARTIES)


@pytest.fixture
def resilient(built, tiny_config, tmp_path, request):
    """Built once a module, then copied."""
    made = request.module.__dict__.setdefault("_made", {})
    world = made.get("resilient") or made.setdefault("resilient", built(tiny_config(), "resilient"))
    shutil.copytree(world.root, tmp_path / "world")
    return replace(world, root=tmp_path / "world", nodes={})


def silent(world, *gone, restart=False, instead=None):
    """gone: (message type, which one of that type, party) whose node does not see the message: no answer, or ``instead``.

    restart: every node, before every message of a sum.
    """
    seen = {}

    def drive(requests):
        type_ = Envelope.decode(next(iter(requests.values()))).type
        seen[type_] = seen.get(type_, 0) + 1
        away = {p for kind, nth, p in gone if (kind, nth) == (type_, seen[type_])}
        node = world.restart if restart and type_ in ("round", "survivors", "open") else world.node
        answers = dict.fromkeys(away & requests.keys(), instead) if instead else {}
        return answers | {p: node(p).handle(r) for p, r in requests.items() if p not in away}

    exchange = world.exchange()
    try:
        requests = next(exchange)
        while True:
            requests = exchange.send(drive(requests))
    except StopIteration as done:
        return done.value


def test_nobody_away_gives_the_strict_model(resilient, tiny_config, built):
    strict = built(tiny_config(), "strict").drive()
    outcome = resilient.drive()
    # the plan's hash, which the dither depends on, holds the policy: equal up to the rounding of the integers
    assert [s["nodes"] for s in outcome.summaries] == [s["nodes"] for s in strict.summaries] == [9, 9]
    for name, weights in strict.shared.items():
        np.testing.assert_allclose(outcome.shared[name], weights, atol=2e-3)


def test_away_at_any_step_and_back_in_the_next_round(resilient):
    """Messages of type "round": the two roles' counts, then two rounds, then gains."""
    outcome = silent(resilient, ("round", 3, "tax-1"), ("survivors", 1, "ecommerce-2"), ("open", 3, "ecommerce-1"))
    assert [s["nodes"] for s in outcome.summaries] == [8, 9]
    members = {(o["kind"], o["scope"], o["members"]): o["count"] for o in outcome.openings}
    assert members["update", "", 8] == members["update", "", 9] == 1
    assert members["role", "tax", 3] == members["role", "tax", 4] == 1
    assert members["role", "ecommerce", 4] == 2


def test_nodes_restarted_before_every_message_go_on_from_their_journals(resilient):
    gone = (("round", 3, "tax-1"), ("open", 3, "ecommerce-1"))
    assert [s["nodes"] for s in silent(resilient, *gone, restart=True).summaries] == [8, 9]


def test_a_node_that_lost_its_keys_is_done_without(resilient):
    """A restarted node with real secrets answers need_setup: absent until the next key agreement."""
    lost = Envelope("error", {"code": "need_setup"}).encode()
    assert [s["nodes"] for s in silent(resilient, ("round", 3, "tax-1"), instead=lost).summaries] == [8, 9]


def test_a_role_with_too_few_keeps_its_encoder_for_that_round(resilient):
    outcome = silent(resilient, ("round", 3, "tax-1"), ("round", 3, "tax-2"))
    assert [s["nodes"] for s in outcome.summaries] == [7, 9]
    assert {o["count"] for o in outcome.openings if (o["kind"], o["scope"]) == ("role", "tax")} == {1}


def test_too_few_stop_the_run_which_then_goes_on(resilient):
    gone = [("round", 3, f"{role}-{i}") for role in ("tax", "ecommerce") for i in (1, 2, 3)]
    with pytest.raises(PolicyRefusal, match="too_few_survivors"):
        silent(resilient, *gone)
    assert [s["nodes"] for s in resilient.drive().summaries] == [9, 9]


def test_a_round_that_was_agreed_but_not_opened_is_lost_and_the_run_goes_on(resilient):
    """The coordinator dies after the agreements of round 1: its nodes will not sign another set for it."""
    exchange = resilient.exchange()
    requests = next(exchange)
    everyone = len(resilient.job.roster.parties)
    while Envelope.decode(next(iter(requests.values()))).type != "open" or len(requests) < everyone:
        requests = exchange.send({p: resilient.node(p).handle(r) for p, r in requests.items()})
    for party, request in requests.items():
        resilient.node(party).handle(request)  # they reveal, and nobody hears
    assert [(s["t"], s["nodes"]) for s in resilient.drive().summaries] == [(2, 9)]


def test_scores_need_every_partner(resilient):
    with pytest.raises(NodeFailed, match="no_answer"):
        silent(resilient, ("round", 6, "tax-1"))
