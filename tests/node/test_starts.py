"""A run that begins from trained weights: only from those that every node knows, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from fedprofile.config.planning import make_plan, make_policy
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.rounds import Watch, conduct
from fedprofile.errors import ConfigError, UsageError
from fedprofile.label_owner.party import mark_concluded
from fedprofile.messages import Envelope
from fedprofile.models.layout import first_shared, start_hash
from fedprofile.node.starts import trust_start, trusted_starts
from fedprofile.secagg.messages import Round
from fedprofile.simulation import plan as simulated
from fedprofile.simulation.homes import give_start


def _trained(world: Any) -> dict[str, np.ndarray]:
    return {n: w + np.float32(0.25) for n, w in first_shared(world.job.plan).items()}


def _warm(world: Any, weights: dict[str, np.ndarray]) -> Any:
    """The same world, its plan beginning from ``weights``."""
    facts = simulated.facts_of(world.config, world.federation, world.dealt)
    policy = make_policy(world.config, facts)
    plan = make_plan(world.config, facts, world.job.roster, policy, None, weights)
    return replace(world, job=replace(world.job, plan=plan), nodes={})


def test_round_one_starts_from_the_trained_weights_and_the_run_ends(world: Any) -> None:
    weights = _trained(world)
    warm = _warm(world, weights)
    give_start(warm.root, warm.homes, weights)
    first: dict[str, bytes] = {}

    def via(party: str, request: bytes) -> bytes:
        envelope = Envelope.decode(request)
        if envelope.type == "round":
            first.setdefault(party, envelope.parts[0])
        return bytes(warm.node(party).handle(request))

    outcome = warm.drive(via=via)
    assert set(first) == set(warm.homes)
    for part in first.values():
        sent = load(bytes(Round.decode(part, warm.job.roster).model))
        assert {n: w.tobytes() for n, w in sent.items()} == {n: w.tobytes() for n, w in weights.items()}
    moved = [float(np.abs(outcome.shared[n] - weights[n]).max()) for n in weights]
    assert 0 < max(moved) < 0.25


def test_weights_that_a_node_does_not_know_are_refused_in_the_plan(world: Any) -> None:
    warm = _warm(world, _trained(world))
    reply = warm.ask("tax", "plan", warm.plan_body())
    assert (reply.type, reply.body.get("code")) == ("error", "unknown_start")


def test_other_weights_than_the_plan_names_are_refused_in_round_one(
    tiny_config: Any, build_world: Any, tmp_path: Any
) -> None:
    """Even where sums are not recomputed."""
    config = tiny_config()
    config.secure.verify = "none"
    world = build_world(tmp_path, config, ("bank", "ecommerce", "tax"))
    weights = _trained(world)
    warm = _warm(world, weights)
    give_start(warm.root, warm.homes, weights)
    give_start(warm.root, {}, {n: w * 2 for n, w in weights.items()})
    requests = warm.drive(until="round")
    for party, request in requests.items():
        reply = warm.ask(party, "round", {}, *Envelope.decode(request).parts)
        assert (reply.type, reply.body.get("code")) == ("error", "not_recomputed")


def test_what_a_node_worked_out_itself_it_lets_the_next_run_begin_from(world: Any, tmp_path: Any) -> None:
    outcome = world.drive()
    mark = start_hash(outcome.shared).hex()
    assert {trusted_starts(home) for home in world.homes.values()} == {frozenset({mark})}
    warm, store = _warm(world, outcome.shared), CheckpointStore(tmp_path / "second")
    store.path.parent.mkdir()
    store.begin_from(outcome.shared)
    mark_concluded(world.home("bank"))
    second = warm.drive(conduct(warm.job, store, Watch()))
    assert any((second.shared[n] != w).any() for n, w in outcome.shared.items())
    known = frozenset({mark, start_hash(second.shared).hex()})
    assert {trusted_starts(home) for home in world.homes.values()} == {known}


def test_what_it_did_not_work_out_to_the_end_it_does_not(tiny_config: Any, build_world: Any, tmp_path: Any) -> None:
    config = tiny_config()
    config.secure.verify = "none"
    taken = build_world(tmp_path / "taken", config, ("bank", "ecommerce", "tax"))
    taken.drive()
    cut = build_world(tmp_path / "cut", tiny_config(), ("bank", "ecommerce", "tax"))
    cut.drive(until="round", times=2)
    cut.ask("tax", "finish")
    for world in (taken, cut):
        assert {trusted_starts(home) for home in world.homes.values()} == {frozenset()}


def test_a_node_s_list_is_signed_and_what_does_not_fit_is_not_planned(world: Any) -> None:
    home, weights = world.home("tax"), _trained(world)
    assert trusted_starts(home) == frozenset()
    trust_start(home, start_hash(weights))
    assert trusted_starts(home) == {start_hash(weights).hex()}
    file = home.path / "starts.json"
    file.write_text(file.read_text().replace(start_hash(weights).hex(), "00" * 32))
    with pytest.raises(UsageError, match="changed by somebody else"):
        trusted_starts(home)
    with pytest.raises(ConfigError, match="do not fit the model"):
        _warm(world, {n: w[..., :1] for n, w in weights.items()})
