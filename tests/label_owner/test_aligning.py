from dataclasses import replace

import numpy as np
import pytest

from fedprofile.alignment.letters import SpineFact
from fedprofile.alignment.psi import Partner
from fedprofile.label_owner.aligning import OwnerAligning
from fedprofile.label_owner.home import read_membership
from fedprofile.messages import Envelope
from fedprofile.node.aligning import PartnerAligning
from fedprofile.node.source import write_table
from fedprofile.node.spine import read_spine


def code(world, type_, *parts):
    reply = world.ask("bank", type_, {}, *parts)
    assert set(reply.body) == {"code"}, reply
    return reply.body["code"]


@pytest.fixture
def asked(world):
    """The partners' sealed points, ecommerce first."""
    return Envelope.decode(world.drive(until="align-spine")["bank"]).parts


@pytest.fixture
def claimed(world):
    return Envelope.decode(world.drive(until="align-views")["bank"]).parts


def test_it_learns_which_partner_knows_which_of_its_customers(ready):
    world, _ = ready
    bank, ids = read_spine(world.home("bank")), next(n for n in world.dealt if n.id == "bank").table.ids
    known = read_membership(world.home("bank")).known
    assert set(known) == {"ecommerce", "tax"}
    for party, mask in known.items():
        theirs = set(next(n for n in world.dealt if n.id == party).table.ids.tolist())
        assert [i in theirs for i in ids[bank.rows].tolist()] == mask[bank.slots].tolist()
        assert mask.sum() == mask[bank.slots].sum(), "nobody knows what pads the spine"
    views = np.sum(list(known.values()), axis=0)
    assert bank.enough.tolist() == (views >= world.job.plan.min_views)[bank.slots].tolist()


def test_a_partner_is_told_of_its_own_customers_only(ready):
    """Bits of customers that it does not know are 0, whoever else knows them."""
    world, _ = ready
    known = read_membership(world.home("bank")).known
    tax = read_spine(world.home("tax"))
    both = known["tax"] & known["ecommerce"]
    assert tax.enough.tolist() == both[tax.slots].tolist()
    assert 0 < both.sum() < known["tax"].sum()


def test_what_it_told_whom_is_booked(ready):
    world, _ = ready
    journal = list(world.node("bank").journal)
    known = read_membership(world.home("bank")).known
    told = {e["to"]: e["customers"] for e in journal if e["event"] == "told"}
    assert told == {p: int(m.sum()) for p, m in known.items()}
    assert {e["party"]: e["points"] for e in journal if e["event"] == "asked-by"} == {"ecommerce": 480, "tax": 480}
    assert [e["size"] for e in journal if e["event"] == "spine"] == [640]


def test_the_spine_is_signed_and_one_answer_goes_to_each_partner(world, asked):
    reply = world.ask("bank", "align-spine", {}, *asked)
    bank = world.job.roster.party("bank")
    fact = SpineFact.verified(reply.body, reply.parts[0], world.job.plan.hash, bank)
    assert (fact.size, len(reply.parts)) == (640, 3)


def test_a_partner_that_asks_about_too_many_is_answered_nothing(world, asked):
    world.node("bank").policy = replace(world.job.policy, max_points=479)
    assert code(world, "align-spine", *asked) == "too_many_points"
    assert [e for e in world.node("bank").journal if e["event"] == "spine"] == []


def test_points_that_are_not_what_was_signed_for_are_refused(world, asked):
    tax = world.node("tax")._aligning(PartnerAligning)
    for size, body, expected in (
        (480, bytes(479 * 32), "wrong_length"),
        (512, bytes(480 * 32), "wrong_length"),
        (481, bytes(481 * 32), "bad_size"),
        (480, bytes(32) * 480, "duplicate_points"),
    ):
        assert code(world, "align-spine", asked[0], tax.write("bank", "points", size, body)) == expected
    off = b"".join(n.to_bytes(32, "little") for n in range(480))
    assert code(world, "align-spine", asked[0], tax.write("bank", "points", 480, off)) == "bad_point"


def test_letters_come_from_each_partner_in_its_place(world, asked):
    assert code(world, "align-spine", asked[1], asked[0]) == "wrong_party"
    assert code(world, "align-spine", asked[0]) == "bad_letter"
    assert code(world, "align-spine") == "bad_letter"
    assert code(world, "align-views", *asked) == "wrong_letter"


def test_a_partner_asks_once_a_run(world, asked):
    """Not again about others: each list may be as long as the limit, so a second one would double it."""
    assert world.ask("bank", "align-spine", {}, *asked).type == "spine"
    assert world.ask("bank", "align-spine", {}, *asked).type == "spine", "a retry repeats the same points"
    tax = world.node("tax")._aligning(PartnerAligning)
    side = Partner(np.array([f"GUESS-{i}" for i in range(480)]), "tax", world.job.plan.hash, tax.suite, tax.rand())
    other = tax.write("bank", "points", 480, side.points())
    assert code(world, "align-spine", asked[0], other) == "letter_changed"


def test_a_partner_claims_once_a_run(world, claimed):
    assert world.ask("bank", "align-views", {}, *claimed).type == "views"
    assert world.ask("bank", "align-views", {}, *claimed).type == "views", "a retry repeats the same claims"
    other = world.node("tax")._aligning(PartnerAligning).write("bank", "claims", 640, bytes(640 * 16))
    assert code(world, "align-views", claimed[0], other) == "letter_changed"
    assert read_membership(world.home("bank")).known["tax"].sum() == 480


def test_claims_of_another_spine_are_refused(world, claimed):
    tax = world.node("tax")._aligning(PartnerAligning)
    assert code(world, "align-views", claimed[0], tax.write("bank", "claims", 704, bytes(704 * 16))) == "bad_size"
    assert code(world, "align-views", claimed[0], tax.write("bank", "claims", 640, bytes(639 * 16))) == "wrong_length"


def test_who_claims_everybody_is_believed_nobody(world, claimed):
    tax = world.node("tax")._aligning(PartnerAligning)
    reply = world.ask("bank", "align-views", {}, claimed[0], tax.write("bank", "claims", 640, bytes(640 * 16)))
    assert reply.type == "views"
    known = read_membership(world.home("bank")).known
    assert (known["tax"].sum(), known["ecommerce"].sum()) == (0, 480)
    assert not read_spine(world.home("bank")).enough.any()


def test_another_process_of_the_label_owner_goes_on_without_the_work(world, claimed, monkeypatch):
    from fedprofile.alignment.suites import Psi

    monkeypatch.setattr(Psi, "own", None)
    world.nodes.clear()
    assert world.ask("bank", "align-views", {}, *claimed).type == "views"


def test_a_table_that_changed_meanwhile_ends_the_run(world, claimed):
    table = next(n for n in world.dealt if n.id == "bank").table
    write_table(table.take(np.arange(len(table))[::-1]), world.home("bank").path / "table.parquet")
    assert code(world, "align-views", *claimed) == "spine_changed"


def test_it_answers_no_partners_messages(world, asked):
    assert {code(world, t) for t in ("align", "align-match", "align-store")} == {"not_for_this_node"}


def test_the_repr_shows_neither_plan_nor_journal(world, asked):
    shown = repr(world.node("bank")._aligning(OwnerAligning))
    assert "journal" not in shown
    assert "EXAMPLE" not in shown
