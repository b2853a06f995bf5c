import pytest

from fedprofile.errors import RemoteProtocolError
from fedprofile.messages import Envelope
from fedprofile.secagg.messages import Complaint


def upload_code(world, party, request):
    reply = Envelope.decode(world.restart(party).handle(request))
    return reply.body.get("code", reply.type)


def test_simulated_keys_are_derived_again_from_public_transcript_and_secret(ready):
    world, requests = ready
    key = world.node("tax").keeper.current.own_seal_key().private_bytes_raw()
    again = world.restart("tax").keeper.current
    assert again.own_seal_key().private_bytes_raw() == key
    assert key not in b"".join(p.read_bytes() for p in world.home("tax").path.rglob("*") if p.is_file())
    assert upload_code(world, "tax", requests["tax"]) == "uploads"


def test_a_node_that_never_agreed_keys_asks_for_a_setup(world, code_of):
    assert code_of(lambda: world.node("tax").keeper.current) == "need_setup"


def test_keys_are_not_agreed_before_a_plan_is_approved(world):
    assert world.ask("tax", "setup", {}, b"x").body["code"] == "no_plan"


def test_real_keys_die_with_the_process(tiny_config, build_world, tmp_path):
    config = tiny_config()
    config.federation.secrets = str(tmp_path / "secrets")
    world = build_world(tmp_path / "world", config, ("bank", "ecommerce", "tax"))
    requests = world.drive(until="round")
    assert upload_code(world, "tax", requests["tax"]) == "need_setup"
    world.nodes.clear()
    assert [s["t"] for s in world.drive().summaries] == [1, 2]


def test_each_setup_of_a_run_has_its_own_keys(ready):
    world, _ = ready
    keys = [world.node("tax").keeper.current.own_seal_key().private_bytes_raw()]
    world.drive(until="round")
    keys.append(world.node("tax").keeper.current.own_seal_key().private_bytes_raw())
    assert keys[0] != keys[1]


def test_a_finished_node_has_forgotten_its_keys(finished):
    world, _ = finished
    with pytest.raises(RemoteProtocolError) as error:
        _ = world.node("tax").keeper.current
    assert error.value.code == "need_setup"


def test_another_process_of_the_node_may_answer_each_message(world):
    """On Ray any actor may serve a node, also between two messages of a set-up."""
    outcome = world.drive(via=lambda party, request: world.restart(party).handle(request))
    assert len(outcome.summaries) == 2


@pytest.fixture(scope="module")
def hybrid(build_world, tiny_config, tmp_path_factory):
    config = tiny_config()
    config.secure.kem = "x25519_mlkem768"
    return build_world(tmp_path_factory.mktemp("hybrid") / "world", config, ("bank", "ecommerce", "tax"))


def test_a_hybrid_run_gives_the_same_model_bit_for_bit(hybrid, finished):
    world, outcome = finished
    assert hybrid.job.plan == world.job.plan
    again = hybrid.drive()
    assert all((again.shared[n] == w).all() for n, w in outcome.shared.items())
    sums = [w.home("bank").read_arrays("score_sum.safetensors")["sums"] for w in (hybrid, world)]
    assert (sums[0] == sums[1]).all()
    bundles = [w.wire.down["open-bundle"]["bytes"] for w in (again, outcome)]
    assert bundles[0] - bundles[1] > 3 * 1088, "each node gets the ciphertexts of the earlier ones"


def test_hybrid_keys_die_with_the_process_even_where_secrets_are_simulated(hybrid):
    requests = hybrid.drive(until="round")
    assert upload_code(hybrid, "tax", requests["tax"]) == "need_setup"


@pytest.mark.parametrize("own", ["x25519", "x25519_mlkem768"])
def test_the_node_decides_what_keys_rest_on(world, hybrid, own):
    mine, theirs = (hybrid, world) if own == "x25519_mlkem768" else (world, hybrid)
    assert mine.ask("tax", "plan", mine.plan_body()).type == "approval"
    request = theirs.drive(until="setup")["tax"]
    refused = Envelope.decode(mine.node("tax").handle(request))
    assert refused.body["code"] == "kem_mismatch"
    Complaint.decode(refused.parts[0], mine.job.roster).verify(mine.job.roster)
