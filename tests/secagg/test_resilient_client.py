"""What a node signs and reveals, and what it never does: the hostile cases that concern survivors, each with its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedprofile.errors import PolicyRefusal, ProtocolError
from fedprofile.secagg import shamir
from fedprofile.secagg.messages import Agree, Open, ResilientUpload, Reveal, Survivors
from fedprofile.secagg.resilient_client import ResilientSession
from fedprofile.secagg.wire import wire_order
from fedprofile.types import Layout, Policy, Quantised, Segment

LAYOUT = Layout((Segment("w", (7,), 32, 1.0, 1.0),))


class Round:
    """Seven nodes (t = q = 4, c = 0); "tax6" never uploads. The test is the coordinator: it builds every message."""

    def __init__(self, federate, policy=None):
        self.fed = fed = federate(7, policy or Policy(accept_differencing=True), "resilient").set_up()
        self.id = fed.id()
        self.values = {p: Quantised({"w": np.eye(7, dtype=np.uint32)[i]}) for i, p in enumerate(fed.names)}
        self.data = fed.server.round(self.id, fed.names, LAYOUT, b"m")
        uploads = {p: fed.upload(p, self.data, q) for p, q in self.values.items()}
        self.uploads = {p: ResilientUpload.decode(u, fed.roster) for p, u in uploads.items()}
        self.h = self.uploads["bank"].upload.h
        self.alive = wire_order(tuple(p for p in fed.names if p != "tax6"))

    def survivors(self, names=None, **changes):
        return replace(Survivors(self.id, self.h, wire_order(names or self.alive)), **changes).encode()

    def agree(self, party, names=None):
        """The party's signature, whether it would give it or not."""
        unsigned = Agree(self.id, party, self.h, wire_order(names or self.alive))
        return unsigned.signed(self.fed.ids[party]).signature

    def request(self, party, names=None, signers=None, **changes):
        names = wire_order(names or self.alive)
        signed = tuple((p, self.agree(p, names)) for p in wire_order(signers or names))
        shares = self.sealed(party, names)
        return replace(Open(self.id, self.h, names, signed, shares), **changes).encode()

    def sealed(self, party, names):
        """What these owners sealed for the party; some of them did not have to."""
        return tuple((p, dict(self.uploads[p].shares)[party]) for p in names if party in dict(self.uploads[p].shares))

    def refused(self, code, message, party="tax1"):
        """Refused with this code, nothing journalled, and the honest message still goes through."""
        journal = list(self.fed.journals[party])
        with pytest.raises(ProtocolError) as error:
            self.fed.nodes[party].handle(message)
        assert error.value.code == code
        assert self.fed.journals[party] == journal


@pytest.fixture
def round(federate):
    return Round(federate)


def test_agree_then_reveal(round):
    fed, node = round.fed, round.fed.nodes["tax1"]
    agreed = Agree.decode(node.handle(round.survivors()), fed.roster)
    agreed.verify(fed.roster)
    assert agreed.survivors == round.alive
    revealed = Reveal.decode(node.handle(round.request("tax1")), fed.roster)
    revealed.verify(fed.roster)
    # seed and one pad for each survivor: "tax6" is nobody's owner, so its seed stays hidden
    assert [p for p, _ in revealed.shares] == list(round.alive)
    assert {len(d) for _, d in revealed.shares} == {2 * shamir.SIZE}
    assert [e["event"] for e in fed.journals["tax1"]] == ["setup", "upload", "agree", "reveal"]
    assert fed.journals["tax1"][-1]["members"] == list(round.alive)


def test_full_cohort_needs_no_agreement_and_reveals_no_pad(round):
    node, names = round.fed.nodes["tax1"], round.fed.names
    revealed = Reveal.decode(node.handle(round.request("tax1", names)), round.fed.roster)
    assert {len(d) for _, d in revealed.shares} == {shamir.SIZE}
    round.refused("revealed_before", round.request("tax1"))
    assert node.handle(round.request("tax1", names)) == revealed.encode()


def wire_items(items, *more):
    """With bytes of an owner that is dead, or seals nothing for this node."""
    whole = dict(items) | dict.fromkeys(more, items[0][1])
    return tuple((p, whole[p]) for p in wire_order(tuple(whole)))


SEVEN = ("bank", "tax1", "tax2", "tax3", "tax4", "tax5", "tax6")

HOSTILE = {
    "cohort of one": (lambda r: r.survivors(("tax1",)), "too_few_survivors"),
    "fewer than the quorum": (lambda r: r.survivors(("tax1", "tax2", "tax3")), "too_few_survivors"),
    "without this node": (lambda r: r.survivors(("bank", "tax2", "tax3", "tax4", "tax5")), "wrong_survivors"),
    "all survive, once more": (lambda r: r.survivors(SEVEN), "wrong_survivors"),
    "another round's hash": (lambda r: r.survivors(h=b"\1" * 32), "wrong_round"),
    "another t": (lambda r: r.survivors(id=r.fed.id(t=1)), "wrong_round"),
    "another attempt": (lambda r: r.survivors(id=r.fed.id(attempt=1)), "wrong_round"),
    "another run": (lambda r: r.survivors(id=replace(r.id, run_id=b"\1" * 32)), "wrong_round"),
    "a kind that was not asked": (lambda r: r.survivors(id=r.fed.id("stats")), "wrong_round"),
    "a score sum": (lambda r: r.survivors(id=r.fed.id("score")), "score_needs_all"),
    "open: cohort of one": (lambda r: r.request("tax1", ("tax1",)), "too_few_survivors"),
    "open: threshold 1": (lambda r: r.request("tax1", signers=("bank",)), "too_few_signatures"),
    "open: one signature short": (lambda r: r.request("tax1", signers=r.alive[:3]), "too_few_signatures"),
    "open: unsigned": (lambda r: r.request("tax1", signatures=()), "too_few_signatures"),
    "open: all alive, one consent missing": (
        lambda r: r.request("tax1", SEVEN, signers=SEVEN[:6]),
        "too_few_signatures",
    ),
    "open: signed by the dropped": (
        lambda r: r.request("tax1", signers=("bank", "tax2", "tax3", "tax6")),
        "wrong_survivors",
    ),
    "open: one signature four times": (
        lambda r: r.request("tax1", signatures=(("bank", r.agree("bank")),) * 4),
        "duplicate",
    ),
    "open: signatures for another set": (
        lambda r: r.request("tax1", signatures=tuple((p, r.agree(p, r.alive[:5])) for p in r.alive)),
        "bad_signature",
    ),
    "open: consents to all for fewer": (
        lambda r: r.request("tax1", signatures=tuple((p, r.uploads[p].consent) for p in r.alive)),
        "bad_signature",
    ),
    "open: id alive and dead": (
        lambda r: r.request("tax1", shares=wire_items(r.sealed("tax1", r.alive), "tax6")),
        "bad_share",
    ),
    "open: a share left out": (
        lambda r: r.request("tax1", shares=r.sealed("tax1", r.alive)[1:]),
        "bad_share",
    ),
    "open: another holder's shares": (
        lambda r: r.request("tax1", shares=r.sealed("tax2", r.alive)),
        "bad_share",
    ),
    "open: shares cut": (
        lambda r: r.request("tax1", shares=tuple((p, d[:-1]) for p, d in r.sealed("tax1", r.alive))),
        "bad_share",
    ),
    "open: sealed by one who derives": (
        lambda r: r.request("tax1", shares=wire_items(r.sealed("tax1", r.alive), "tax1")),
        "bad_share",
    ),
    "open: another attempt": (lambda r: r.request("tax1", id=r.fed.id(attempt=1)), "wrong_round"),
    "open: another hash": (lambda r: r.request("tax1", h=b"\1" * 32), "wrong_round"),
    "open: a score sum": (lambda r: r.request("tax1", id=r.fed.id("score")), "score_needs_all"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_survivors_are_refused(round, case):
    build, code = HOSTILE[case]
    round.refused(code, build(round))
    assert round.fed.nodes["tax1"].handle(round.request("tax1"))


def test_unequal_survivor_lists(round):
    """A peer that uploaded is declared dead to some and alive to others: whoever signed one set knows no other."""
    node = round.fed.nodes["tax1"]
    agreed = node.handle(round.survivors())
    fewer = round.alive[:-1] if round.alive[-1] != "tax1" else round.alive[1:]
    round.refused("agreed_before", round.survivors(fewer))
    assert node.handle(round.survivors()) == agreed
    round.refused("survivors_changed", round.request("tax1", fewer))
    # its consent to the full cohort is withdrawn with the agreement
    round.refused("survivors_changed", round.request("tax1", round.fed.names))
    revealed, journal = node.handle(round.request("tax1")), list(round.fed.journals["tax1"])
    assert node.handle(round.request("tax1", signers=round.alive[1:])) == revealed
    assert round.fed.journals["tax1"] == journal
    round.refused("revealed_before", round.request("tax1", fewer))
    round.refused("revealed_before", round.survivors(fewer))
    round.refused("revealed_before", round.survivors())


def test_no_two_sets_find_a_quorum(federate):
    """The coordinator with c colluders splits the honest in every way: at most one of two sets opens."""
    for n, colluders in ((5, 0), (7, 1), (8, 2)):
        honest, quorum = n - colluders, (n + colluders) // 2 + 1
        assert all(min(k, honest - k) + colluders < quorum for k in range(honest + 1))
        # and those who did not agree hold, with the colluders, fewer shares than open a seed
        assert all(honest - k + colluders < quorum for k in range(quorum - colluders, honest + 1))


def test_what_was_agreed_or_revealed_ends_the_t(round):
    fed = round.fed
    retry = fed.server.round(fed.id(attempt=1), fed.names, LAYOUT, b"m")
    fed.nodes["tax1"].handle(round.survivors())
    fed.nodes["tax2"].handle(round.request("tax2"))
    for party, code in (("tax1", "agreed_before"), ("tax2", "revealed_before")):
        with pytest.raises(PolicyRefusal, match=code):
            fed.nodes[party].verify_round(retry)
    # one that did neither may send the same integers again, and then forgets the first attempt
    again = fed.upload("tax3", retry, round.values["tax3"])
    first = round.uploads["tax3"].upload
    assert bytes(ResilientUpload.decode(again, fed.roster).upload.y) != bytes(first.y)
    round.refused("wrong_round", round.survivors(), "tax3")
    for party in ("tax1", "tax2"):
        fed.nodes[party].verify_round(fed.server.round(fed.id(t=1), fed.names, LAYOUT, b"m"))


def test_nothing_is_revealed_once_a_later_t_verified(round):
    fed = round.fed
    fed.nodes["tax1"].verify_round(fed.server.round(fed.id("stats", t=1), fed.names, LAYOUT, b"m"))
    round.refused("wrong_round", round.request("tax1"))


def test_the_journal_comes_first(round):
    node, journal = round.fed.nodes["tax1"], round.fed.journals["tax1"].append

    def broken(_entry):
        raise OSError("disk full")

    for message in (round.survivors(), round.request("tax1")):
        node._journal = broken
        with pytest.raises(OSError, match="disk full"):
            node.handle(message)
        node._journal = journal
        assert node.handle(message)


def test_a_restored_session_goes_on_where_the_journal_stands(round):
    fed, old = round.fed, round.fed.nodes["tax1"]
    agreed = old.handle(round.survivors())
    restored = ResilientSession.restore(old.transcript(), *fed.arguments("tax1"), history=list(fed.journals["tax1"]))
    fed.nodes["tax1"] = restored
    assert restored.handle(round.survivors()) == agreed
    round.refused("agreed_before", round.survivors(round.alive[:-1]))
    round.refused("survivors_changed", round.request("tax1", round.fed.names))
    assert Reveal.decode(restored.handle(round.request("tax1")), fed.roster) == Reveal.decode(
        old.handle(round.request("tax1")), fed.roster
    )
    assert Agree.decode(agreed, fed.roster).survivors == round.alive


def test_a_restarted_node_reveals_nothing(round):
    fed = round.fed
    fed.nodes["tax1"] = fed.session("tax1", history=fed.journals["tax1"])
    round.refused("need_setup", round.request("tax1"))


def test_uploads_hide_and_never_repeat(federate):
    """Zeros in every attempt, kind and t: self masks and pads differ, so no two uploads share bytes."""
    fed = federate(5, profile="resilient").set_up()
    zeros = Quantised({"w": np.zeros(400, np.uint32)})
    layout, seen = Layout((Segment("w", (400,), 32, 1.0, 1.0),)), []
    for t in (0, 1):
        for kind in ("stats", "update"):
            for attempt in (0, 1):
                data = fed.server.round(fed.id(kind, t, attempt), fed.names, layout, b"m")
                seen.append(ResilientUpload.decode(fed.upload("tax1", data, zeros), fed.roster).upload)
    vectors = [np.frombuffer(u.y, np.uint8) for u in seen]
    assert max(np.mean(a == b) for i, a in enumerate(vectors) for b in vectors[:i]) < 0.03
    assert max(np.mean(a == 0) for a in vectors) < 0.03


def test_differencing_is_accepted_by_name_only(federate):
    fed = federate(4, Policy(), "resilient")
    with pytest.raises(PolicyRefusal, match="differencing_refused"):
        fed.nodes["tax1"].handle(fed.server.setup_request())
    # the common policy accepts, this node's own does not
    fed = federate(4, profile="resilient")
    own = ResilientSession(*fed.arguments("tax1", Policy()), common=fed.policy)
    with pytest.raises(PolicyRefusal, match="differencing_refused"):
        own.handle(fed.server.setup_request())
    strict = federate(4, fed.policy).server.setup_request()
    with pytest.raises(PolicyRefusal, match="profile_mismatch"):
        fed.nodes["tax1"].handle(strict)


def test_more_colluders_than_the_common_policy_counts(federate):
    """The graph follows from the common policy; a node that trusts fewer refuses what does not bear it."""
    fed = federate(8, Policy(accept_differencing=True), "resilient")
    own = Policy(colluders=3, accept_differencing=True)
    fed.nodes["tax1"] = ResilientSession(*fed.arguments("tax1", own), common=fed.policy)
    fed.set_up()
    with pytest.raises(PolicyRefusal, match="threshold_refused"):
        fed.nodes["tax1"].verify_round(fed.server.round(fed.id(), fed.names, LAYOUT, b"m"))


def test_survivors_hide_as_much_as_the_policy_asks(federate):
    """Six of seven would do for the quorum; the node counts three colluders and wants four hidden."""
    round = Round(federate, Policy(accept_differencing=True, min_hidden=6))
    round.refused("too_few_hidden", round.survivors())
    round.refused("too_few_hidden", round.request("tax1"))


def test_the_sealing_key_goes_with_the_first_round(round):
    with pytest.raises(ProtocolError, match="wrong_state"):
        round.fed.nodes["tax1"].own_seal_key()
