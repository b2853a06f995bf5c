import itertools
import json
from dataclasses import replace

import pytest

from fedprofile.coordinator.job import Job
from fedprofile.data.example import example
from fedprofile.node.policy import read_policy, read_roster
from fedprofile.node.spine import read_simulated_spine
from fedprofile.secagg.identity import verify_roster
from fedprofile.simulation.homes import give_alignment, is_simulated, make_homes, make_roster, node_secret, write_job

FEDERATION = example(("bank", "ecommerce", "tax"))


def test_simulated_secrets_differ_by_data_party_and_draw():
    drawn = [
        node_secret(f, draw, party)
        for f in (FEDERATION, replace(FEDERATION, digest=bytes(32)))
        for draw in ("simulated", "simulated:2")
        for party in ("bank", "tax")
    ]
    assert len(set(drawn)) == 8
    assert {len(s) for s in drawn} == {32}
    assert node_secret(FEDERATION, "simulated:1", "tax") == node_secret(FEDERATION, "simulated", "tax")


def test_real_secrets_are_not_derived():
    assert node_secret(FEDERATION, "/some/folder", "tax") is None
    assert not is_simulated("/some/folder")
    assert not is_simulated("simulated_folder")


def test_secrets_do_not_depend_on_the_seed(tiny_config, build_world, tmp_path):
    keys = []
    for seed in (0, 1):
        config = tiny_config()
        config.seed = seed
        world = build_world(tmp_path / str(seed), config, ("bank", "ecommerce", "tax"))
        keys.append({p: h.derive("labels") for p, h in world.homes.items()})
    assert keys[0] == keys[1]
    assert len(set(keys[0].values())) == 3


def test_a_home_holds_its_own_table_and_nothing_of_the_others(world):
    for node, other in itertools.permutations(world.dealt, 2):
        held = b"".join(p.read_bytes() for p in world.home(node.id).path.rglob("*") if p.is_file())
        strangers = set(other.table.columns) - set(node.table.columns)
        assert not [c for c in strangers if c.encode() in held]


def test_every_node_pins_the_same_signed_roster_and_its_policy(world):
    for party, home in world.homes.items():
        assert read_roster(home) == world.job.roster
        assert read_policy(home) == world.job.policy
        assert world.job.roster.party(party).role == home.config.role
    verify_roster(world.job.roster)
    assert world.job.roster.parties[0].id == world.job.roster.label_owner


def test_real_keys_lie_outside_the_run_and_are_found_again(world, tmp_path):
    arguments = (FEDERATION, world.dealt, str(tmp_path / "keys"), "simulated")
    first = make_homes(tmp_path / "run1", *arguments)
    second = make_homes(tmp_path / "run2", *arguments)
    assert make_roster(first, "bank") == make_roster(second, "bank")
    assert not list((tmp_path / "run1").rglob("secret.key"))
    assert {h.config.secrets for h in first.values()} == {"own"}


@pytest.mark.parametrize("profile", ["strict", "none"])
@pytest.mark.parametrize("align", ["psi", "plain", "simulated"])
def test_masking_profile_and_alignment_are_the_nodes_own(world, tmp_path, profile, align):
    modes = (profile, align, "x25519_mlkem768")
    homes = make_homes(tmp_path / "n", FEDERATION, world.dealt, "simulated", "simulated", *modes)
    assert {(h.config.profile, h.config.align, h.config.kem) for h in homes.values()} == {modes}


def test_an_alignment_is_given_only_where_it_is_simulated(world, code_of):
    assert code_of(lambda: read_simulated_spine(world.home("tax"))) == "no_spine"
    give_alignment(world.homes, "bank", world.alignment)
    for party, home in world.homes.items():
        assert read_simulated_spine(home).slots.tolist() == world.alignment.spines[party].slots.tolist()
    assert [p.parent.name for p in world.root.rglob("membership.safetensors")] == ["bank"]


def test_the_job_file_holds_no_secret_and_no_path(world, tmp_path):
    write_job(tmp_path / "coordinator", world.job)
    text = (tmp_path / "coordinator" / "job.json").read_text()
    assert Job.from_json(text) == world.job
    assert set(json.loads(text)) == {"plan", "roster", "policy", "profile", "kem"}
    for home in world.homes.values():
        assert (home.path / "secret.key").read_bytes().hex() not in text
