import pytest

from fedprofile.config.planning import make_plan, make_policy, views_needed
from fedprofile.data.example import example
from fedprofile.errors import ConfigError
from fedprofile.simulation.homes import make_roster
from fedprofile.simulation.nodes import align, deal
from fedprofile.simulation.plan import check_federation, facts_of


def check(config, parties=("bank", "ecommerce", "tax")):
    federation = example(parties)
    nodes = deal(federation, config.members, config.federation.overlap)
    check_federation(config, federation, nodes, align(nodes, b"s", views_needed(config)))


def refusal(config, parties=("bank", "ecommerce", "tax")):
    with pytest.raises(ConfigError) as error:
        check(config, parties)
    assert error.value.mend
    assert "EXAMPLE" not in str(error.value)
    return error.value.key


def test_three_parties_are_enough(tiny_config):
    check(tiny_config())


def test_two_parties_hide_nothing_and_need_saying_so(tiny_config):
    config = tiny_config()
    assert refusal(config, ("bank", "tax")) == "secure.min_hidden"
    config.secure.min_hidden = 1
    assert refusal(config, ("bank", "tax")) == "fusion.min_views"
    config.fusion.min_views = 1
    check(config, ("bank", "tax"))


def test_colluders_count_as_revealed(tiny_config):
    config = tiny_config()
    config.secure.colluders = 1
    assert refusal(config) == "secure.min_hidden"


def test_a_release_that_is_too_small_is_refused(tiny_config):
    config = tiny_config()
    config.privacy.min_release = 320
    assert refusal(config) == "privacy.min_release"
    config.privacy.min_release, config.federation.members = 120, 3
    assert refusal(config) == "privacy.min_release"


def test_a_partner_that_would_ask_about_too_many_is_refused(tiny_config):
    config = tiny_config()
    config.align.max_points = 479
    assert refusal(config) == "align.max_points"
    config.align.max_points = 480
    check(config)
    config.align.max_points, config.align.mode = 256, "simulated"
    check(config)


def test_a_federation_in_which_nobody_has_enough_views_is_refused(tiny_config):
    config = tiny_config()
    config.fusion.min_views = 3
    assert refusal(config) == "fusion.min_views"


@pytest.mark.parametrize(("setting", "value"), [("min_hidden", 3), ("colluders", 1)])
def test_a_role_whose_sum_hides_too_little_shares_no_encoder_or_is_refused(
    tiny_config, build_world, tmp_path, setting, value
):
    """A role of three hides two: with more asked for, the run must not die after labels were released."""
    config = tiny_config()
    config.federation.members, config.fusion.min_views = 3, 2
    setattr(config.secure, setting, value)
    try:
        world = build_world(tmp_path, config, ("bank", "ecommerce", "medical", "tax"))
    except ConfigError:
        return
    assert len(world.drive().summaries) == 2


def test_views_are_never_fewer_than_what_a_sum_must_hide(tiny_config):
    config = tiny_config()
    config.fusion.min_views, config.secure.colluders = 1, 1
    assert views_needed(config) == 3
    config.fusion.min_views = 5
    assert views_needed(config) == 5


def test_the_plan_says_what_was_agreed(world):
    plan = world.job.plan
    assert (plan.roster_hash, plan.policy_hash) == (world.job.roster.hash, world.job.policy.hash)
    assert plan.align == "psi"
    assert (plan.label_eps, plan.min_views, plan.min_release) == (2.0, 2, 40)
    assert (plan.learning.rounds, plan.learning.steps, plan.learning.hidden) == (2, 2, 8)
    assert dict(plan.schemas) == {}


def test_a_shared_role_agrees_on_its_columns(roles):
    assert set(roles.job.plan.schemas) == {"ecommerce", "tax"}
    assert roles.job.plan.schemas["tax"] == roles.federation.tables["tax"].schema


def plan_of(world, **changes):
    config = world.config
    for name, value in changes.items():
        setattr(config.learning if hasattr(config.learning, name) else config, name, value)
    facts = facts_of(config, world.federation, world.dealt)
    policy, roster = make_policy(config, facts), make_roster(world.homes, "bank")
    return make_plan(config, facts, roster, policy, None)


def test_equal_runs_have_equal_ids_and_others_do_not(world):
    assert plan_of(world) == world.job.plan
    assert plan_of(world, seed=1).run_id != world.job.plan.run_id
    assert plan_of(world, seed=0, lr=1e-4).run_id != world.job.plan.run_id


@pytest.mark.parametrize(("shared", "rounds", "steps"), [("roles", 20, 20), ("world", 5, 80)])
def test_rounds_follow_from_what_is_shared(request, shared, rounds, steps):
    learning = plan_of(request.getfixturevalue(shared), rounds=None, steps=None).learning
    assert (learning.rounds, learning.steps) == (rounds, steps)


def policy_of(config, parties=("bank", "ecommerce", "tax")):
    federation = example(parties)
    dealt = deal(federation, config.members, config.federation.overlap)
    return make_policy(config, facts_of(config, federation, dealt))


def test_nodes_recompute_by_default_and_demand_it(world, roles):
    for built in (world, roles):
        assert built.job.plan.recompute
        assert built.job.policy.recompute


@pytest.mark.parametrize("share", ["all", "role", "none"])
def test_verify_none_is_a_choice(tiny_config, share):
    config = tiny_config(share=share)
    assert policy_of(config).recompute
    config.secure.verify = "none"
    assert not policy_of(config).recompute


OUTSIDE = {
    "two parties": ("hides 1", {"min_hidden": 1}, {"min_views": 1}, 1, {}),
    "a colluder in a role of three": ("hides 1", {"min_hidden": 1, "colluders": 1}, {"min_views": 1}, 3, {}),
    "nineteen nodes": ("19 nodes", {}, {}, 9, {}),
    "a large trunk": ("parameters", {}, {}, 1, {"hidden": 4096, "profile": 128}),
    "a wide encoder": ("parameters", {}, {}, 3, {"hidden": 4096, "profile": 8, "replicas": 10}),
    "no masks": ("without masks", {"profile": "none"}, {}, 1, {}),
    "self masks": ("self masks", {"profile": "resilient", "accept_differencing": True}, {}, 1, {}),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_outside_its_bounds_recompute_is_off_by_default_and_refused_if_named(tiny_config, case):
    said, secure, fusion, members, model = OUTSIDE[case]
    config = tiny_config()
    config.data.members = members
    for section, values in ((config.secure, secure), (config.fusion, fusion), (config.model, model)):
        for name, value in values.items():
            setattr(section, name, value)
    parties = ("bank", "tax") if case == "two parties" else ("bank", "ecommerce", "tax")
    assert not policy_of(config, parties).recompute
    config.secure.verify = "recompute"
    with pytest.raises(ConfigError, match=said) as refused:
        policy_of(config, parties)
    assert refused.value.key == "secure.verify"
