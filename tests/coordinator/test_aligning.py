import pytest

from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.errors import NodeFailed
from fedprofile.messages import Envelope
from fedprofile.node.spine import read_spine


def types_of(world, **words):
    """Request types in order, each once, of a run up to its first round."""
    seen = []

    def via(party, request):
        seen.append(Envelope.decode(request).type)
        return world.node(party).handle(request)

    world.drive(via=via, until="release-request", **words)
    return list(dict.fromkeys(seen))


def test_customers_are_aligned_between_keys_and_labels(world):
    assert types_of(world) == [
        "plan", "setup", "key-bundle", "open-bundle", "align", "align-spine", "align-match", "align-views", "align-store",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["plain", "simulated"])
def test_other_modes_run_as_well(tiny_config, build_world, tmp_path, mode):
    config = tiny_config()
    config.align.mode = mode
    world = build_world(tmp_path, config, ("bank", "ecommerce", "tax"))
    assert len(world.drive().summaries) == 2
    for party, expected in world.alignment.spines.items():
        spine = read_spine(world.home(party))
        assert spine.size == {"plain": 640, "simulated": 600}[mode]
        assert spine.rows.tolist() == expected.rows.tolist()
        assert spine.enough.tolist() == expected.enough.tolist()


def test_what_it_keeps_of_a_spine_is_size_and_hash(world):
    world.drive(until="release-request")
    state, spine = CheckpointStore(world.root).load(), read_spine(world.home("tax"))
    assert (state.spine_size, state.spine_hash) == (spine.size, spine.hash.hex())


def test_a_run_that_goes_on_does_not_align_again(world):
    first = types_of(world)
    before = {p: read_spine(world.home(p)).slots.tolist() for p in world.homes}
    world.nodes.clear()
    assert types_of(world) == [t for t in first if not t.startswith("align")]
    assert {p: read_spine(world.home(p)).slots.tolist() for p in world.homes} == before


def changed(world, change):
    def via(party, request):
        reply = Envelope.decode(world.node(party).handle(request))
        return (change(reply) if reply.type == "spine" else reply).encode()

    with pytest.raises(NodeFailed) as error:
        world.drive(via=via)
    return error.value.node, error.value.code


def test_a_spine_with_another_signature_or_size_names_the_label_owner(world):
    forged = lambda e: Envelope("spine", e.body | {"size": 704}, e.parts)  # noqa: E731
    assert changed(world, forged) == ("bank", "bad_spine")
    unsigned = lambda e: Envelope("spine", e.body, (bytes(64), *e.parts[1:]))  # noqa: E731
    assert changed(world, unsigned) == ("bank", "bad_spine")


def test_two_spines_do_not_meet_in_one_run(world):
    """A label owner that tells the coordinator of another spine than its partners: no round verifies."""

    def via(party, request):
        envelope = Envelope.decode(request)
        if envelope.type == "round" and party == "tax":
            world.home("tax").write("spine.safetensors", other)
            world.nodes.pop("tax", None)
        return world.node(party).handle(request)

    world.drive(until="round")
    spine = read_spine(world.home("tax"))
    from dataclasses import replace

    from fedprofile.node.spine import write_spine

    write_spine(world.home("tax"), replace(spine, hash=bytes(32)))
    other = world.home("tax").read("spine.safetensors")
    world.nodes.clear()
    with pytest.raises(NodeFailed) as error:
        world.drive(via=via)
    assert (error.value.node, error.value.code) == ("tax", "wrong_spine")
