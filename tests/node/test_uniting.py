import json
from dataclasses import replace

import numpy as np
import pytest

from fedprofile.alignment.hashing import split_bucket
from fedprofile.alignment.letters import SIGNED_LIST, list_bytes
from fedprofile.alignment.psi import split
from fedprofile.alignment.union import NAME
from fedprofile.messages import Envelope
from fedprofile.node.source import write_table
from fedprofile.node.spine import read_spine
from fedprofile.node.uniting import Uniting
from fedprofile.privacy.randomised_response import diluted, flip_matrix
from fedprofile.privacy.sealing import SEAL_OVERHEAD, LabelRelease
from fedprofile.types import digest

RING = ["bank", "ecommerce", "tax"]


@pytest.fixture
def world(united):
    return united


@pytest.fixture
def released(united_ready):
    return united_ready


def code(world, party, *message):
    reply = world.ask(party, *message)
    assert set(reply.body) == {"code"}, reply
    return reply.body["code"]


def requests(world, until, times=1):
    return {p: Envelope.decode(r) for p, r in world.drive(until=until, times=times).items()}


def ids_of(world, party):
    return world.node(party)._aligning(Uniting).ids()[1]


def test_every_node_finds_all_its_customers_and_nobody_elses_mark(released):
    slot_of, spines = {}, {p: read_spine(released.home(p)) for p in RING}
    assert len({(s.size, s.hash) for s in spines.values()}) == 1
    for party, spine in spines.items():
        table = released.node(party).run.table
        assert len(table) == len(ids_of(released, party))
        for id, slot in zip(table.ids.tolist(), spine.slots.tolist(), strict=True):
            assert slot_of.setdefault(id, slot) == slot, "one customer, one slot, at every node"
        assert spine.enough.all(), "whom others know is told to no node"
    assert len(set(slot_of.values())) == len(slot_of)


def test_only_sealed_lists_of_their_class_leave_before_the_names(world):
    sizes = requests(world, "unite-blind")["bank"].body
    assert sizes == {"bank": 640, "ecommerce": 480, "tax": 832}
    asked = requests(world, "unite-mask", times=2)
    for at, party in enumerate(RING):
        owner = RING[at - 2]  # what the neighbour before has masked once
        assert len(asked[party].parts[0]) == 138 + 16 + sizes[owner] * 32 + SEAL_OVERHEAD
    named = requests(world, "unite-name")
    for party in RING:
        reply = Envelope.decode(world.node(party).handle(named[party].encode()))
        names = split(reply.parts[0], NAME)
        assert (reply.type, len(names), names == sorted(set(names))) == ("names", sizes[party], True)


def test_what_it_masks_for_others_is_booked(released):
    journal = [e for e in released.node("ecommerce").journal if e["event"] in ("listed", "masked")]
    # its own list comes back last
    expected = [("listed", None, 480), ("masked", "bank", 640), ("masked", "tax", 832), ("masked", "ecommerce", 480)]
    assert [(e["event"], e.get("party"), e["points"]) for e in journal] == expected


def test_the_words_of_another_alignment_are_refused(world, ready):
    """A coordinator that asks for points in a union would have the bank learn who matches."""
    world.drive(until="unite")
    assert code(world, "tax", "align") == "align_mismatch"
    assert code(world, "bank", "align-spine", {}, b"", b"") == "align_mismatch"
    other, _ = ready
    for type_ in ("unite", "unite-blind", "unite-mask", "unite-name"):
        parts = () if type_ == "unite" else (b"x",)
        assert code(other, "tax", type_, {}, *parts) == "align_mismatch"


def test_sizes_are_signed_kept_and_bounded(world):
    asked = requests(world, "unite-blind")["tax"]
    body, parts = asked.body, asked.parts
    assert code(world, "tax", "unite-blind", body | {"bank": 704}, *parts) == "bad_signature"
    assert code(world, "tax", "unite-blind", body | {"bank": 641}, *parts) == "bad_size"
    assert code(world, "tax", "unite-blind", body | {"bank": True}, *parts) == "bad_size"
    assert code(world, "tax", "unite-blind", {"tax": 832}, *parts) == "bad_size"
    assert code(world, "tax", "unite-blind", body, *parts[:2]) == "bad_size"
    bank = world.node("bank")
    many = bank.identity.sign(SIGNED_LIST, list_bytes(world.job.plan.hash, bank.roster.party("bank"), 1 << 23))
    assert code(world, "tax", "unite-blind", body | {"bank": 1 << 23}, many, *parts[1:]) == "too_many_points"
    assert world.ask("tax", "unite-blind", body, *parts).type == "masked"
    more = bank.identity.sign(SIGNED_LIST, list_bytes(world.job.plan.hash, bank.roster.party("bank"), 704))
    assert code(world, "tax", "unite-blind", body | {"bank": 704}, more, *parts[1:]) == "bad_size"


def test_a_list_of_another_kind_size_or_sender_is_refused(world):
    asked = requests(world, "unite-mask")
    bank, tax = (world.node(p)._aligning(Uniting) for p in ("bank", "tax"))
    wire = {p.id: p.wire_id for p in world.job.roster.parties}
    good = asked["ecommerce"].parts[0]  # the bank's own list, from the bank
    letters = {
        "bad_size": bank.write("ecommerce", "list", 704, wire["bank"] + bytes(704 * 32)),
        "wrong_length": bank.write("ecommerce", "list", 640, wire["bank"] + bytes(639 * 32)),
        "unknown_party": bank.write("ecommerce", "list", 640, bytes(16) + bytes(640 * 32)),
        "duplicate_points": bank.write("ecommerce", "list", 640, wire["bank"] + bytes(640 * 32)),
        "wrong_letter": bank.write("ecommerce", "points", 640, wire["bank"] + bytes(640 * 32)),
        "wrong_party": tax.write("ecommerce", "list", 640, wire["bank"] + bytes(640 * 32)),
        "bad_alignment": asked["tax"].parts[0],
    }
    for expected, letter in letters.items():
        assert code(world, "ecommerce", "unite-mask", {}, letter) == expected
    low = b"".join(n.to_bytes(32, "little") for n in range(640))  # 0 and 1 are of small order
    assert code(world, "ecommerce", "unite-mask", {}, bank.write("ecommerce", "list", 640, wire["bank"] + low)) == (
        "bad_point"
    )
    assert code(world, "ecommerce", "unite-name", {}, good) == "wrong_party"
    assert world.ask("ecommerce", "unite-mask", {}, good).type == "masked"
    assert world.ask("ecommerce", "unite-mask", {}, good).type == "masked", "a retry repeats it"
    other = b"".join((9 + n).to_bytes(32, "little") for n in range(640))
    again = bank.write("ecommerce", "list", 640, wire["bank"] + other)
    assert code(world, "ecommerce", "unite-mask", {}, again) == "letter_changed"
    assert (
        code(
            world,
            "ecommerce",
            "unite-mask",
            {},
            bank.write("ecommerce", "list", 480, wire["ecommerce"] + other[: 480 * 32]),
        )
        == "wrong_party"
    )


def test_messages_out_of_turn_are_refused(world):
    world.drive(until="unite")
    assert code(world, "tax", "unite-mask", {}, b"x") == "bad_order"
    assert code(world, "tax", "unite-store", {"size": 256, "share": 3}, bytes(256 * NAME)) == "no_spine"
    assert code(world, "tax", "unite-store") == "bad_envelope"


def test_the_first_union_counts_and_only_a_whole_one(world):
    asked = requests(world, "unite-store")["tax"]
    body, (spine,) = asked.body, asked.parts
    assert code(world, "tax", "unite-store", body | {"share": 17}, spine) == "bad_spine"
    assert code(world, "tax", "unite-store", {"size": body["size"]}, spine) == "bad_spine"
    assert code(world, "tax", "unite-store", body, spine[NAME:] + spine[:NAME]) == "wrong_spine"
    assert world.ask("tax", "unite-store", body, spine).type == "aligned"
    names = split(world.home("tax").read("names.bin"), NAME)
    foreign = next(n for n in split(spine, NAME) if n not in names)
    other = b"".join(sorted({*split(spine, NAME), digest("other")[:NAME]} - {foreign}))
    assert code(world, "tax", "unite-store", body, other) == "spine_changed"
    assert world.ask("tax", "unite-store", body, spine).type == "aligned", "a retry finds the same"


def test_a_table_that_changes_between_messages_is_refused(world):
    asked = requests(world, "unite-mask")["tax"]
    table = next(n for n in world.dealt if n.id == "tax").table
    write_table(table, world.home("tax").path / "table.parquet")
    assert code(world, "tax", "unite-mask", {}, *asked.parts) == "spine_changed"


def test_a_partner_gets_a_label_for_every_slot_and_cannot_say_whose(released):
    """Who is the bank's customer changes neither that there is a label nor what labels there are."""
    run, bank = released.node("tax").run, released.node("bank").run
    held = LabelRelease.decode(released.home("tax").read("release.bin"), released.job.plan.tasks)
    assert held.slots.tolist() == list(range(run.alignment.size))
    assert released.home("tax").read("release.bin") == released.home("ecommerce").read("release.bin")
    labels, train = run.released()
    assert train.tolist() == (split_bucket(run.table.ids, 0) < 60).tolist(), "by the id alone"
    theirs = np.isin(run.table.ids, bank.table.ids)
    assert 0 < (train & ~theirs).sum() < train.sum()
    own = dict(zip(bank.table.ids.tolist(), bank.released()[0]["tier"].tolist(), strict=True))
    for row in np.flatnonzero(train & theirs):
        assert labels["tier"][row] == own[run.table.ids[row]]
    for values in labels.values():  # three classes or two, and missing ones
        real, dummy = (np.bincount(values[train & m] + 1, minlength=4) for m in (theirs, ~theirs))
        expected = real / real.sum() * dummy.sum()
        assert ((dummy - expected)[expected > 0] ** 2 / expected[expected > 0]).sum() < 16.3  # chi-square, 3, .999


def test_the_loss_is_corrected_for_labels_of_nobody(released):
    run = released.node("tax").run
    true = np.isin(run.table.ids, released.node("bank").run.table.ids).mean()
    assert run._share == pytest.approx(true, abs=1.5 / 16)
    flips = run._flips()["tier"]
    assert np.allclose(flips, diluted(flip_matrix(3, 2.0), run._priors()["tier"], run._share))
    assert released.node("bank").run._share == 1


def test_without_epsilon_labels_of_nobody_still_stand_among_true_ones(released):
    run = released.node("tax").run
    open_run = type(run)(run.home, replace(run.plan, label_eps=None), run.roster)
    prior = run._priors()["tier"]
    assert np.allclose(open_run._flips()["tier"], run._share * np.eye(3) + (1 - run._share) * prior, atol=1e-6)


def test_a_release_of_another_alignment_is_refused(released, code_of):
    run = released.node("tax").run
    held = LabelRelease.decode(run.home.read("release.bin"), run.plan.tasks)
    raw = run.home.read("release.bin")
    run.home.remove("release.bin")
    for forged in (replace(held, fold=None), replace(held, slots=held.slots[::-1].copy())):
        assert code_of(lambda forged=forged: run.store_release(forged.encode(run.plan.tasks))) == "bad_release"
    run.home.write("release.bin", raw)


def test_the_journal_holds_no_id_and_no_name(released):
    written = json.dumps([list(released.node(p).journal) for p in RING])
    names = split(released.home("tax").read("names.bin"), NAME)
    assert not any(i in written for i in ids_of(released, "tax").tolist())
    assert not any(n.hex() in written for n in names)
