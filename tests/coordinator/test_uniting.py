import numpy as np
import pytest

from fedprofile.alignment.letters import SIGNED_LIST, list_bytes
from fedprofile.alignment.psi import read_views, split
from fedprofile.alignment.union import NAME
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.errors import NodeFailed
from fedprofile.label_owner.party import SCORE_SUM
from fedprofile.messages import Envelope
from fedprofile.node.spine import read_spine
from fedprofile.secagg.round_messages import MaskedSum

UNITE = ["unite", "unite-blind", "unite-mask", "unite-name", "unite-store"]


def types_of(world, seen):
    def via(party, request):
        seen.append(Envelope.decode(request).type)
        return world.node(party).handle(request)

    return via


def test_lists_go_once_round_everybody_between_keys_and_labels(united):
    seen = []
    united.drive(via=types_of(united, seen), until="release-request")
    assert list(dict.fromkeys(seen)) == ["plan", "setup", "key-bundle", "open-bundle", *UNITE]
    assert [seen.count(t) for t in UNITE] == [3, 3, 2 * 3, 3, 3]


def test_a_coordinator_that_starts_again_does_not_unite_again(united):
    united.drive(until="release-request")
    before = {p: read_spine(united.home(p)).slots.tolist() for p in united.homes}
    passed = CheckpointStore(united.root).load().passed
    seen = []
    united.nodes.clear()
    united.drive(via=types_of(united, seen), until="release-request")
    assert not set(UNITE) & set(seen)
    assert {p: read_spine(united.home(p)).slots.tolist() for p in united.homes} == before
    assert CheckpointStore(united.root).load().passed.tolist() == passed.tolist()


def test_a_union_that_was_cut_short_begins_again_and_ends_the_same(united, united_ready):
    united.drive(until="unite-name")
    united.nodes.clear()
    united.drive(until="release-request")
    for party in united.homes:
        again, whole = (read_spine(w.home(party)) for w in (united, united_ready))
        assert (again.hash, again.slots.tolist()) == (whole.hash, whole.slots.tolist())


def test_what_it_keeps_says_of_no_slot_whose_it_is(united_ready):
    state = CheckpointStore(united_ready.root).load()
    spine = read_spine(united_ready.home("tax"))
    assert (state.spine_size, state.spine_hash, len(state.passed)) == (spine.size, spine.hash.hex(), spine.size)
    assert {k for k, v in vars(state).items() if isinstance(v, np.ndarray)} == {"passed"}


def test_the_bank_gets_sums_of_its_customers_that_enough_partners_know_and_of_nobody_else(united_finished):
    world, _ = united_finished
    runs = {p: world.node(p).run for p in world.homes}
    kept = world.home("bank").read_arrays(SCORE_SUM)
    passed, sums = kept["passed"].astype(bool), kept["sums"]
    ids = {p: set(run.table.ids.tolist()) for p, run in runs.items()}
    bank = runs["bank"]
    both = [i in ids["tax"] and i in ids["ecommerce"] for i in bank.table.ids.tolist()]
    assert passed[bank.spine.slots].tolist() == both
    assert passed.sum() == sum(both) < len(both)
    said = sum(runs[p].placed_scores() for p in ("ecommerce", "tax"))
    assert np.abs(sums - said)[passed].max() < 2 / 16
    assert (sums[~passed] == 0).all()
    assert (np.abs(said[~passed]) > 1 / 16).any(), "partners spoke of others too, not knowing whom enough know"


def test_the_masked_sum_itself_holds_nothing_of_other_slots(united):
    request = Envelope.decode(united.drive(until="score-sum")["bank"])
    y = np.frombuffer(MaskedSum.decode(request.parts[1], united.job.roster).y, "<u2")
    size = read_spine(united.home("bank")).size
    passed = read_views(request.parts[2], size)
    assert (y.reshape(size, -1)[~passed] == 0).all()
    assert (y.reshape(size, -1)[passed] != 0).mean() > 0.99
    assert united.ask("bank", "score-sum", {}, *request.parts[:2]).body["code"] == "bad_envelope"
    assert united.ask("bank", "score-sum", {}, *request.parts[:2], b"\0").body["code"] == "wrong_length"


@pytest.mark.parametrize(
    ("type_", "change", "code"),
    [
        ("listed", lambda e: Envelope("listed", {"size": 704}, e.parts), "bad_size"),
        ("listed", lambda e: Envelope("listed", {"size": "640"}, e.parts), "bad_size"),
        ("names", lambda e: Envelope("names", parts=(e.parts[0][NAME:],)), "bad_names"),
        ("names", lambda e: Envelope("names", parts=(e.parts[0][:NAME] + e.parts[0][:-NAME],)), "bad_names"),
    ],
)
def test_a_node_that_says_something_else_is_named(united, type_, change, code):
    def via(party, request):
        reply = Envelope.decode(united.node(party).handle(request))
        return (change(reply) if reply.type == type_ and party == "tax" else reply).encode()

    with pytest.raises(NodeFailed) as error:
        united.drive(via=via)
    assert (error.value.node, error.value.code) == ("tax", code)


def test_a_coordinator_that_swaps_letters_is_refused(united):
    """A letter is for one node, and of the one before it."""
    asked = {p: Envelope.decode(r) for p, r in united.drive(until="unite-mask").items()}
    assert united.ask("tax", "unite-mask", {}, asked["bank"].parts[0]).body["code"] == "bad_alignment"


def test_two_unions_do_not_meet_in_one_run(united):
    """Told of another union than the others, a node refuses every round."""
    asked = {p: Envelope.decode(r) for p, r in united.drive(until="unite-store").items()}
    names, (spine,) = split(united.home("tax").read("names.bin"), NAME), asked["tax"].parts
    foreign = next(n for n in split(spine, NAME) if n not in names)
    other = spine.replace(foreign, foreign[:-1] + bytes([foreign[-1] ^ 1]))

    def via(party, request):
        envelope = Envelope.decode(request)
        if (party, envelope.type) == ("tax", "unite-store"):
            envelope = Envelope(envelope.type, envelope.body, (other,))
        return united.node(party).handle(envelope.encode())

    with pytest.raises(NodeFailed) as error:
        united.drive(via=via)
    assert (error.value.node, error.value.code) == ("tax", "wrong_spine")


def test_a_size_that_another_party_signed_is_refused_at_the_node(united):
    asked = Envelope.decode(united.drive(until="unite-blind")["tax"])
    bank = united.node("bank")
    forged = bank.identity.sign(SIGNED_LIST, list_bytes(united.job.plan.hash, bank.roster.party("tax"), 832))
    parts = (*asked.parts[:2], forged)
    assert united.ask("tax", "unite-blind", asked.body, *parts).body["code"] == "bad_signature"
