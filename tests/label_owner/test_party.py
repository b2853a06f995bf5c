import numpy as np
from safetensors.numpy import load

from fedprofile.alignment.hashing import split_bucket
from fedprofile.label_owner.evaluate import owner_data, read_sums
from fedprofile.label_owner.home import read_membership, write_owner
from fedprofile.label_owner.party import OPENING, SCORE_SUM, SHARED_MODEL, LabelOwnerNode, open_node
from fedprofile.messages import Envelope
from fedprofile.node.encoders import finished_run, finished_runs
from fedprofile.node.home import NodeHome
from fedprofile.node.spine import read_spine
from fedprofile.privacy.sealing import LabelRelease


def test_a_home_opens_as_the_node_that_it_is(world):
    assert type(open_node(world.home("bank").path)) is LabelOwnerNode
    assert type(open_node(world.home("tax").path)) is not LabelOwnerNode


def test_every_node_gets_released_training_customers_of_its_own_and_no_true_label_file(ready):
    world, _ = ready
    buckets = split_bucket(world.federation.labels.ids)
    train = {str(i) for i in world.federation.labels.ids[buckets < 60]}
    for node in world.dealt:
        spine = read_spine(world.home(node.id))
        held = LabelRelease.decode(world.home(node.id).read("release.bin"), world.job.plan.tasks)
        ids = dict(zip(spine.slots.tolist(), node.table.ids[spine.rows].tolist(), strict=True))
        assert {ids[s] for s in held.slots.tolist()} == train & set(ids.values())


def test_all_nodes_hear_the_same_answer_and_it_is_randomised(ready):
    world, _ = ready
    heard = {}
    for party in ("bank", "ecommerce", "tax"):
        held = LabelRelease.decode(world.home(party).read("release.bin"), world.job.plan.tasks)
        heard[party] = dict(zip(held.slots.tolist(), held.labels["tier"].tolist(), strict=True))
    assert all(heard["bank"][s] == y for p in ("ecommerce", "tax") for s, y in heard[p].items())
    order = read_spine(world.home("bank"))
    true = dict(zip(order.slots.tolist(), world.federation.labels.values["tier"][order.rows].tolist(), strict=True))
    kept = np.mean([true[s] == y for s, y in heard["bank"].items()])
    assert 0.7 < kept < 0.88  # e^2 / (e^2 + 2) = .787


def test_what_is_released_is_booked_by_customers_and_party(ready):
    world, _ = ready
    booked = {e["to"]: e["customers"] for e in world.node("bank").journal if e["event"] == "released"}
    sizes = {p: len(LabelRelease.decode(world.home(p).read("release.bin"), world.job.plan.tasks).slots) for p in booked}
    assert booked == sizes
    assert set(booked) == {"bank", "ecommerce", "tax"}


def test_the_bank_opens_the_sum_of_what_partners_said_and_no_more(finished):
    world, _ = finished
    opened = world.home("bank").read_arrays(SCORE_SUM)["sums"]
    said = sum(world.node(p).run.placed_scores() for p in ("ecommerce", "tax"))
    assert np.abs(opened - said).max() < 2 / 16
    views = np.sum(list(read_membership(world.home("bank")).known.values()), axis=0)
    assert (opened[views < world.job.plan.min_views] == 0).all()
    assert (opened * 16 == np.rint(opened * 16)).all()


def test_a_sum_is_opened_once(world):
    requests = world.drive(until="score-sum")
    reply = world.node("bank").handle(requests["bank"])
    kept = world.home("bank").read(SCORE_SUM)
    again = world.node("bank").handle(requests["bank"])
    assert Envelope.decode(reply).type == Envelope.decode(again).type == "opened"
    assert world.home("bank").read(SCORE_SUM) == kept
    assert [e["event"] for e in world.node("bank").journal].count("open") == 1


def test_a_full_disk_opens_nothing_and_loses_nothing(world):
    requests = world.drive(until="score-sum")
    bank, home = world.node("bank"), world.home("bank")
    room = home.run / "opening.safetensors.new"
    room.mkdir()  # nothing can be written there
    assert Envelope.decode(bank.handle(requests["bank"])).body == {"code": "internal_error"}
    assert "open" not in [e["event"] for e in bank.journal]
    assert home.read(SCORE_SUM) is None
    room.rmdir()
    world.drive()  # as `fedprofile coordinator resume` does, from its checkpoint
    assert home.read(SCORE_SUM) is not None


def test_an_opened_sum_outlives_a_crash_before_it_has_its_name(world, monkeypatch):
    requests = world.drive(until="score-sum")
    home = world.home("bank")
    monkeypatch.setattr(NodeHome, "rename", lambda *_: 1 / 0)
    assert Envelope.decode(world.node("bank").handle(requests["bank"])).type == "error"
    assert home.read(SCORE_SUM) is None
    kept = home.read(OPENING)
    monkeypatch.undo()
    world.nodes.pop("bank")  # keys in memory are gone: nothing can open it again
    assert Envelope.decode(world.node("bank").handle(requests["bank"])).type == "opened"
    assert home.read(SCORE_SUM) == kept
    assert [e["event"] for e in world.node("bank").journal].count("open") == 1


def test_a_score_sum_that_was_tampered_with_is_not_opened(world):
    request, total = Envelope.decode(world.drive(until="score-sum")["bank"]).parts
    assert world.ask("bank", "score-sum", {}, request).body["code"] == "bad_envelope"
    assert world.ask("bank", "score-sum", {}, request, total[:-1]).type == "error"
    assert world.home("bank").read(SCORE_SUM) is None


def test_the_label_owner_takes_the_shared_model_home(finished):
    world, outcome = finished
    held = load(world.home("bank").read(SHARED_MODEL))
    assert all((held[n] == w).all() for n, w in outcome.shared.items())
    assert world.home("tax").read(SHARED_MODEL) is None
    assert world.ask("bank", "finish").body["code"] == "no_model"


def test_the_label_owner_ends_with_every_partners_word_and_keeps_it(finished):
    world, _ = finished
    home, plan = world.home("bank"), world.job.plan.hash
    kept = finished_run(home, plan)
    words = {p: finished_run(world.home(p), plan) for p in ("ecommerce", "tax")}
    assert kept["acknowledged"] == {p: {k: w[k] for k in ("digest", "signature")} for p, w in words.items()}
    assert not list((home.path / "encoders").glob("*.safetensors"))
    model = home.read(SHARED_MODEL)
    forged = kept["acknowledged"] | {"tax": kept["acknowledged"]["ecommerce"]}
    for said in ({}, {"acknowledged": {}}, {"acknowledged": forged}):
        assert world.ask("bank", "finish", said, model).body["code"] == "bad_acknowledgement"
    assert world.ask("bank", "finish", {"acknowledged": kept["acknowledged"]}, model).type == "finished"
    assert finished_runs(home) == [kept]


def test_a_release_below_the_minimum_is_refused_at_the_bank(tiny_config, build_world, tmp_path, monkeypatch):
    from fedprofile.simulation import plan

    monkeypatch.setattr(plan, "check_federation", lambda *_: None)  # which would refuse before any node is asked
    config = tiny_config()
    config.privacy.min_release = 320
    world = build_world(tmp_path, config, ("bank", "ecommerce", "tax"))
    request = world.drive(until="release-request")["bank"]
    assert Envelope.decode(world.node("bank").handle(request)).body == {"code": "release_too_small"}


def test_a_union_is_told_once_for_ever(united):
    """Told again after a customer came or went, partners could see whose labels stay and whose are of nobody."""
    request = united.drive(until="release-request")["bank"]
    assert Envelope.decode(united.node("bank").handle(request)).type == "labels"
    assert Envelope.decode(united.node("bank").handle(request)).type == "labels", "the same again tells nothing new"
    journal = united.node("bank").journal
    assert [e["event"] for e in journal].count("union-release") == 1
    write_owner(united.home("bank").path, united.federation.labels, 1)  # other training customers
    united.home("bank").remove("permitted.json")  # as in another run, which asks nobody what this one was made of
    united.nodes.clear()
    assert Envelope.decode(united.node("bank").handle(request)).body == {"code": "union_release_changed"}


def test_the_fusion_after_a_union_knows_only_who_is_known_to_enough(united_finished):
    world, _ = united_finished
    data = owner_data(world.home("bank"), world.job.plan, world.job.roster)
    kept = world.home("bank").read_arrays(SCORE_SUM)
    spine = read_spine(world.home("bank"))
    assert data.roles == ("partners",)
    assert data.known[:, 0].tolist() == kept["passed"][spine.slots].tolist()
    assert (read_sums(world.home("bank"), spine.slots)[data.known[:, 0] == 0] == 0).all()
    assert world.home("bank").read("membership.safetensors") is None
