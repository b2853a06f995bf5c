import json

import numpy as np
import pytest

from fedprofile.alignment.letters import SpineFact, size_class
from fedprofile.messages import Envelope
from fedprofile.node.aligning import PartnerAligning
from fedprofile.node.spine import read_spine
from fedprofile.privacy.sealing import SEAL_OVERHEAD, seal


def code(world, party, *message):
    reply = world.ask(party, *message)
    assert set(reply.body) == {"code"}, reply
    return reply.body["code"]


def events(world, party, name):
    return [e for e in world.node(party).journal if e["event"] == name]


@pytest.fixture
def asked(world):
    """The requests of align-match, by party, not yet asked."""
    return {p: Envelope.decode(r) for p, r in world.drive(until="align-match").items()}


def match(world, party, envelope, **body):
    return world.ask(party, "align-match", envelope.body | body, *envelope.parts)


def test_every_node_finds_the_customers_it_shares_with_the_label_owner(ready):
    world, _ = ready
    ids = {n.id: n.table.ids for n in world.dealt}
    spines = {p: read_spine(world.home(p)) for p in world.homes}
    at = {p: dict(zip(s.slots.tolist(), ids[p][s.rows].tolist(), strict=True)) for p, s in spines.items()}
    for party, expected in world.alignment.spines.items():
        spine = spines[party]
        assert (spine.size, spine.hash) == (size_class(600), spines["bank"].hash)
        assert sorted(spine.rows.tolist()) == sorted(expected.rows.tolist())
        assert all(at["bank"][slot] == id for slot, id in at[party].items())
        enough = dict(zip(expected.rows.tolist(), expected.enough.tolist(), strict=True))
        assert [enough[r] for r in spine.rows.tolist()] == spine.enough.tolist()


def test_rows_are_in_the_order_of_every_other_run(ready):
    world, _ = ready
    for party, expected in world.alignment.spines.items():
        assert read_spine(world.home(party)).rows.tolist() == expected.rows.tolist()


def test_what_leaves_is_of_the_size_of_its_class_and_booked_before(world):
    requests = world.drive(until="align")
    assert set(requests) == {"ecommerce", "tax"}
    reply = Envelope.decode(world.node("tax").handle(requests["tax"]))
    assert len(reply.parts[0]) == 138 + 480 * 32 + SEAL_OVERHEAD
    assert list(world.node("tax").journal)[-1] == {"event": "asked", "plan": world.job.plan.hash.hex(), "points": 480}


def test_no_id_and_no_key_lies_in_the_runs_state_or_journal(ready):
    world, _ = ready
    for party in world.homes:
        home = world.home(party)
        secret = home.derive("alignment", world.job.plan.hash)
        held = b"".join(p.read_bytes() for p in [*home.run.iterdir(), home.path / "journal.jsonl"])
        assert secret not in held
        assert not [i for i in next(n for n in world.dealt if n.id == party).table.ids if str(i).encode() in held]


def test_a_node_that_has_aligned_answers_the_same_again(world, asked):
    first = match(world, "tax", asked["tax"])
    world.nodes.clear()
    again = match(world, "tax", asked["tax"])
    assert (first.type, again.type, len(first.parts[0])) == ("claims", "claims", len(again.parts[0]))
    assert len(events(world, "tax", "spine")) == 1


def test_a_spine_that_the_label_owner_did_not_sign_is_refused(world, asked):
    envelope = asked["tax"]
    assert match(world, "tax", envelope, size=704).body == {"code": "bad_signature"}
    assert match(world, "tax", envelope, hash="00" * 32).body == {"code": "bad_signature"}
    assert match(world, "tax", envelope, size="640").body == {"code": "bad_spine"}
    assert code(world, "tax", "align-match", envelope.body, envelope.parts[1]) == "bad_envelope"
    by_another = world.node("ecommerce").identity.sign("spine", b"")
    assert code(world, "tax", "align-match", envelope.body, by_another, envelope.parts[1]) == "bad_signature"
    assert events(world, "tax", "spine") == []


def test_the_first_spine_of_a_run_is_the_only_one(world, asked):
    """Even if run state was lost: the journal outlives it."""
    assert match(world, "tax", asked["tax"]).type == "claims"
    bank, plan = world.node("bank"), world.job.plan.hash
    other = SpineFact(640, b"\1" * 32)
    entry = {"event": "spine", "plan": plan.hex(), "size": 640, "hash": asked["tax"].body["hash"]}
    assert events(world, "tax", "spine") == [entry]
    aligning = world.node("tax")._aligning(PartnerAligning)
    with pytest.raises(Exception, match="spine_changed"):
        aligning.pin(other)
    assert aligning.pinned() == SpineFact(640, bytes.fromhex(entry["hash"]))
    assert bank.me == "bank"


def test_letters_for_or_by_another_are_refused(world, asked):
    envelope = asked["tax"]
    signature, sealed = envelope.parts
    foreign = asked["ecommerce"].parts[1]
    assert code(world, "tax", "align-match", envelope.body, signature, foreign) == "bad_alignment"
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    assert code(world, "tax", "align-match", envelope.body, signature, broken) == "bad_alignment"
    # sealed to this node, but written by another partner
    node, plan = world.node("ecommerce"), world.job.plan.hash
    aligning = node._aligning(PartnerAligning)
    by_partner = aligning.write("tax", "answer", 480, b"")
    assert code(world, "tax", "align-match", envelope.body, signature, by_partner) == "wrong_party"
    # of the label owner, but of another type, then of another size than was asked
    bank = world.node("bank")._aligning(PartnerAligning)
    for type_, size, expected in (
        ("views", 480, "wrong_letter"),
        ("answer", 512, "bad_size"),
        ("answer", 480, "wrong_length"),
    ):
        part = bank.write("tax", type_, size, b"x")
        assert code(world, "tax", "align-match", envelope.body, signature, part) == expected
    plain = seal(b"no letter", node.keeper.current.peer_seal_key("tax"), plan, "tax", "alignment")
    assert code(world, "tax", "align-match", envelope.body, signature, plain) == "bad_letter"


def test_an_answer_of_another_run_is_refused(world, asked):
    bank = world.node("bank")._aligning(PartnerAligning)
    bank.plan = type(bank.plan)(**{**vars(bank.plan), "run_id": b"\1" * 32})
    part = bank.write("tax", "answer", 480, b"")
    signature = asked["tax"].parts[0]
    assert code(world, "tax", "align-match", asked["tax"].body, signature, part) == "bad_alignment"


def test_a_table_that_changed_after_asking_ends_the_run(world, asked):
    from fedprofile.node.source import write_table

    table = next(n for n in world.dealt if n.id == "tax").table
    write_table(table.take(np.arange(len(table))[::-1]), world.home("tax").path / "table.parquet")
    assert match(world, "tax", asked["tax"]).body == {"code": "spine_changed"}


def test_views_come_after_the_spine(world, asked):
    bank = world.node("bank")._aligning(PartnerAligning)
    assert code(world, "tax", "align-store", {}, bank.write("tax", "views", 640, bytes(80))) == "no_spine"
    match(world, "tax", asked["tax"])
    assert code(world, "tax", "align-store", {}, bank.write("tax", "views", 704, bytes(88))) == "bad_size"
    assert code(world, "tax", "align-store", {}, bank.write("tax", "views", 640, bytes(79))) == "wrong_length"
    assert world.ask("tax", "align-store", {}, bank.write("tax", "views", 640, bytes(80))).type == "aligned"
    assert not read_spine(world.home("tax")).enough.any()


def test_without_an_alignment_nothing_is_trained(ready):
    world, requests = ready
    world.home("tax").remove("spine.safetensors")
    world.nodes.clear()
    assert Envelope.decode(world.node("tax").handle(requests["tax"])).body == {"code": "no_spine"}


@pytest.fixture
def simulated(tiny_config, build_world, tmp_path):
    config = tiny_config()
    config.align.mode = "simulated"
    return build_world(tmp_path / "simulated", config, ("bank", "ecommerce", "tax"))


def test_where_it_is_simulated_the_label_owner_says_which_spine_counts(simulated):
    requests = simulated.drive(until="align-store")
    body, (signature,) = (e := Envelope.decode(requests["tax"])).body, e.parts
    assert body == {"size": 600, "hash": simulated.alignment.hash.hex()}
    assert code(simulated, "tax", "align") == "align_mismatch"
    assert code(simulated, "tax", "align-store", body | {"size": 601}, signature) == "bad_signature"
    other = SpineFact(600, bytes(32))
    signed = simulated.node("bank").identity.sign("spine", other.signed_bytes(simulated.job.plan.hash))
    assert code(simulated, "tax", "align-store", other.to_body(), signed) == "wrong_spine"
    assert simulated.ask("tax", "align-store", body, signature).type == "aligned"
    assert read_spine(simulated.home("tax")).slots.tolist() == simulated.alignment.spines["tax"].slots.tolist()


def test_a_node_that_wants_it_private_takes_no_simulated_spine(world, asked):
    bank, plan = world.node("bank"), world.job.plan.hash
    fact = SpineFact(600, bytes(32))
    signed = bank.identity.sign("spine", fact.signed_bytes(plan))
    assert code(world, "tax", "align-store", fact.to_body(), signed) in ("no_spine", "bad_alignment")
    with pytest.raises(Exception, match="align_mismatch"):
        world.node("tax")._aligning(PartnerAligning).store_simulated(fact)
    assert json.dumps(fact.to_body())
