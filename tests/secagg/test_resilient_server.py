"""The resilient sum end to end: exact over the survivors, or nothing; and what the coordinator accepts on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import LocalProtocolError, PolicyRefusal, ProtocolError, RemoteProtocolError
from fedprofile.secagg.graph import graph_of
from fedprofile.secagg.messages import Agree, ResilientUpload, Reveal, expected_resilient_upload_size
from fedprofile.secagg.policy import hidden
from fedprofile.secagg.resilient_server import ResilientServer
from fedprofile.secagg.suspended import Suspended
from fedprofile.secagg.wire import wire_order
from fedprofile.types import Layout, Policy, Quantised, Segment


def one_hot(names):
    """Party i sends 1 at position i: a sum over a set is its indicator, and a replay would show as a 2."""
    rows = np.eye(len(names), dtype=np.uint32)
    return {p: Quantised({"w": rows[i]}) for i, p in enumerate(names)}


def hot_layout(n):
    return Layout((Segment("w", (n,), 32, 1.0, 1.0),))


def policy(colluders=0, **limits):
    return Policy(colluders=colluders, accept_differencing=True, **limits)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(3, 10), colluders=st.integers(0, 3))
def test_any_dropouts_give_the_survivors_sum_or_nothing(federate, data, n, colluders):
    """Each party may vanish before any of its three messages; the rule says beforehand whether the sum opens."""
    if hidden(range(n), 0, "", colluders) < 2:
        return
    lost = data.draw(st.dictionaries(st.sampled_from(["bank", *(f"tax{i}" for i in range(1, n))]), st.integers(0, 2)))
    fed = federate(n, policy(colluders), "resilient").set_up()
    layout, values, graph = hot_layout(n), one_hot(fed.names), graph_of(n, colluders)
    survivors = [p for p in fed.names if lost.get(p, 3) > 0]
    agreed, revealed = (sum(lost.get(p, 3) > step for p in survivors) for step in (1, 2))
    full = len(survivors) == n
    opens = (
        len(survivors) >= graph.quorum
        and hidden(survivors, "bank", "", colluders) >= 2
        and (full or agreed >= graph.quorum)
        and revealed >= graph.threshold
    )
    if opens:
        opened = fed.open(layout, values, lost)
        assert set(opened.members) == set(survivors)
        np.testing.assert_array_equal(opened.values["w"], [p in survivors for p in fed.names])
        assert sum(e["event"] == "agree" for j in fed.journals.values() for e in j) == (0 if full else agreed)
        return
    with pytest.raises(ProtocolError) as refused:
        fed.open(layout, values, lost)
    if refused.value.code == "missing_member":
        # fewer than ``threshold`` revealed: what the coordinator holds is still noise
        total = np.frombuffer(fed.server._pending["update", ""].tally.total, "<u4")
        assert np.count_nonzero(total > 2) >= n - 1
    else:
        assert refused.value.code in ("too_few_survivors", "too_few_hidden", "too_few_signatures")
        assert not any(e["event"] == "reveal" for j in fed.journals.values() for e in j)


@pytest.mark.parametrize(
    ("n", "colluders", "lost"),
    [
        (4, 0, {"tax1": 0}),
        (4, 0, {"tax1": 1}),
        (4, 0, {"bank": 2}),
        (10, 3, {"tax1": 0, "tax2": 0, "tax3": 0}),
        (10, 3, {"tax1": 0, "tax2": 1, "tax3": 2}),
        (10, 3, {"tax1": 2, "tax2": 2, "bank": 2}),
    ],
)
def test_as_many_as_section_5_2_allows_may_vanish_anywhere(federate, layout, expected, n, colluders, lost):
    fed = federate(n, policy(colluders), "resilient").set_up()
    values = fed.integers(layout)
    opened = fed.open(layout, values, lost)
    alive = {p: q for p, q in values.items() if lost.get(p, 3) > 0}
    for name, total in expected(layout, alive).items():
        np.testing.assert_array_equal(opened.values[name], total)


def test_nobody_may_vanish_of_three_with_a_colluder(federate):
    """n = 3, c = 1: t = 3; hidden 1 is named, as two honest members could not hide each other."""
    fed = federate(3, policy(1, min_hidden=1), "resilient").set_up()
    assert fed.open(hot_layout(3), one_hot(fed.names)).values["w"].tolist() == [1, 1, 1]
    with pytest.raises(PolicyRefusal, match="too_few_survivors"):
        fed.open(hot_layout(3), one_hot(fed.names), {"tax1": 0}, round_id=fed.id(t=1))


@pytest.mark.parametrize(("n", "colluders"), [(50, 5), pytest.param(100, 10, marks=pytest.mark.nightly)])
def test_a_ring_of_many(federate, n, colluders):
    """Above 32 members: (10, 8) and (22, 17), 5 % vanish, spread over all steps."""
    fed = federate(n, policy(colluders), "resilient").set_up()
    lost = {f"tax{1 + 7 * i}": i % 3 for i in range(n // 20)}
    opened = fed.open(hot_layout(n), one_hot(fed.names), lost)
    np.testing.assert_array_equal(opened.values["w"], [lost.get(p, 3) > 0 for p in fed.names])


def test_a_ring_agrees_on_the_full_cohort_too(federate):
    """There, those who did not agree could hold a threshold of some member's shares: no consent in advance."""
    fed = federate(33, policy(), "resilient").set_up()
    assert fed.open(hot_layout(33), one_hot(fed.names)).values["w"].tolist() == [1] * 33
    assert all([e["event"] for e in j] == ["setup", "upload", "agree", "reveal"] for j in fed.journals.values())
    assert fed.open(hot_layout(33), one_hot(fed.names), {"tax7": 0}, round_id=fed.id(t=1)).values["w"].sum() == 32


def test_a_round_goes_on_after_one_that_failed(federate):
    fed = federate(5, policy(), "resilient").set_up()
    values, layout = one_hot(fed.names), hot_layout(5)
    with pytest.raises(PolicyRefusal, match="too_few_survivors"):
        fed.open(layout, values, {"tax1": 0, "tax2": 0, "tax3": 0})
    # nobody agreed: the same t again, with the same integers
    assert fed.open(layout, values, {"tax1": 0}, round_id=fed.id(attempt=1)).values["w"].tolist() == [1, 0, 1, 1, 1]
    assert fed.open(layout, values, {"tax2": 0}, round_id=fed.id(t=1)).values["w"].tolist() == [1, 1, 0, 1, 1]


def test_role_and_stats_sums_of_one_t(federate):
    fed = federate(6, policy(), "resilient").set_up()
    members = tuple(p for p in fed.names if p != "bank")
    hot = one_hot(members)
    for kind, scope, values in (
        ("stats", "", one_hot(fed.names)),
        ("role", "tax", hot),
        ("update", "", one_hot(fed.names)),
    ):
        opened = fed.open(hot_layout(len(values)), values, {"tax5": 0}, round_id=fed.id(kind, scope=scope))
        assert opened.values["w"].tolist() == [1] * (len(values) - 1) + [0]


def test_score_sums_stay_strict(federate, score_layout, expected):
    """The opener's pads with a dropped member would stay, and a row might keep one partner's score alone."""
    fed = federate(4, policy(), "resilient").set_up()
    values = {p: q for p, q in fed.integers(score_layout).items() if p != "bank"}
    data = fed.server.round(fed.id("score"), fed.names, score_layout, b"")
    uploads = fed.uploads(data, values)
    with pytest.raises(RemoteProtocolError, match="missing_member"):
        fed.server.masked_sum(fed.id("score"), {p: uploads[p] for p in ("tax1", "tax2")})
    with pytest.raises(LocalProtocolError, match="score_needs_all"):
        fed.server.survivors(fed.id("score"))
    masked = fed.server.masked_sum(fed.id("score"), {"tax3": uploads["tax3"]})
    bank = fed.nodes["bank"]
    np.testing.assert_array_equal(
        bank.open_sum(masked, bank.verify_round(data))["scores"], expected(score_layout, values)["scores"]
    )


class Halfway:
    """Five nodes, "tax4" gone before its upload; the rest have uploaded."""

    def __init__(self, federate):
        self.fed = fed = federate(5, policy(), "resilient").set_up()
        self.id = fed.id()
        self.data = fed.server.round(self.id, fed.names, hot_layout(5), b"m")
        self.values = one_hot(fed.names)
        self.uploads = {p: fed.upload(p, self.data, self.values[p]) for p in fed.names if p != "tax4"}
        self.alive = tuple(self.uploads)

    def agreed(self):
        for p, u in self.uploads.items():
            self.fed.server.add(self.id, p, u)
        asked = self.fed.server.survivors(self.id)
        return {p: self.fed.nodes[p].handle(asked) for p in self.alive}

    def revealed(self):
        for p, data in self.agreed().items():
            self.fed.server.agree(self.id, p, data)
        return {p: self.fed.nodes[p].handle(m) for p, m in self.fed.server.requests(self.id).items()}


@pytest.fixture
def halfway(federate):
    return Halfway(federate)


def refused(code, call, *args):
    with pytest.raises(ProtocolError) as error:
        call(*args)
    assert error.value.code == code


def test_uploads_refused(halfway):
    fed, server, id = halfway.fed, halfway.fed.server, halfway.id
    good = halfway.uploads["tax1"]
    circle = server._pending["update", ""].circle
    assert len(good) == expected_resilient_upload_size(hot_layout(5), circle, "tax1")
    message = ResilientUpload.decode(good, fed.roster)
    identity = fed.ids["tax1"]
    other = replace(message, consent=ResilientUpload.decode(halfway.uploads["tax2"], fed.roster).consent)
    fewer = replace(message, shares=tuple((p, b"\0" * (len(d) - 1)) for p, d in message.shares))
    swapped = replace(message, shares=tuple((p, message.shares[0][1]) for p, _ in message.shares))
    refused("wrong_length", server.add, id, "tax1", good[:-1])
    refused("wrong_length", server.add, id, "tax1", fewer.signed(identity).encode())
    refused("unknown_party", server.add, id, "tax2", good)
    refused("bad_signature", server.add, id, "tax1", other.signed(identity).encode())
    refused("bad_signature", server.add, id, "tax1", swapped.encode())
    refused("unknown_party", server.add, id, "sybil", good)
    server.add(id, "tax1", good)
    refused("duplicate", server.add, id, "tax1", good)


def test_order_of_the_coordinator(halfway):
    fed, server, id = halfway.fed, halfway.fed.server, halfway.id
    refused("wrong_state", server.requests, id)
    refused("wrong_state", server.open, id)
    agrees = halfway.agreed()
    refused("wrong_state", server.survivors, id)
    refused("wrong_state", server.open, id)
    # a late upload is never summed, neither now nor in the next round
    late = fed.upload("tax4", halfway.data, halfway.values["tax4"])
    refused("wrong_state", server.add, id, "tax4", late)
    for p, data in agrees.items():
        server.agree(id, p, data)
    requests = server.requests(id)
    refused("wrong_state", server.requests, id)
    for p, m in requests.items():
        server.reveal(id, p, fed.nodes[p].handle(m))
    assert server.open(id).values["w"].tolist() == [1, 1, 1, 1, 0]
    refused("wrong_round", server.open, id)
    server.round(fed.id(t=1), fed.names, hot_layout(5), b"m")
    refused("wrong_round", server.add, fed.id(t=1), "tax4", late)


def test_agreements_refused(halfway):
    fed, server, id = halfway.fed, halfway.fed.server, halfway.id
    agrees = halfway.agreed()
    base = Agree.decode(agrees["tax1"], fed.roster)
    identity = fed.ids["tax1"]
    refused("unknown_party", server.agree, id, "tax2", agrees["tax1"])
    refused("unknown_party", server.agree, id, "tax4", replace(base, party="tax4").signed(fed.ids["tax4"]).encode())
    refused("wrong_round", server.agree, id, "tax1", replace(base, survivors=fed.names).signed(identity).encode())
    refused("wrong_round", server.agree, id, "tax1", replace(base, h=b"\1" * 32).signed(identity).encode())
    refused("bad_signature", server.agree, id, "tax1", base.signed(fed.ids["tax2"]).encode())
    server.agree(id, "tax1", agrees["tax1"])
    refused("duplicate", server.agree, id, "tax1", agrees["tax1"])
    refused("too_few_signatures", server.requests, id)


def test_reveals_refused_and_a_false_share_aborts(halfway):
    fed, server, id = halfway.fed, halfway.fed.server, halfway.id
    reveals = halfway.revealed()
    base = Reveal.decode(reveals["tax1"], fed.roster)
    identity = fed.ids["tax1"]
    cut = replace(base, shares=tuple((p, d[:-1]) for p, d in base.shares))
    fewer = replace(base, shares=base.shares[1:])
    refused("unknown_party", server.reveal, id, "tax2", reveals["tax1"])
    refused("bad_share", server.reveal, id, "tax1", cut.signed(identity).encode())
    refused("bad_share", server.reveal, id, "tax1", fewer.signed(identity).encode())
    refused("wrong_round", server.reveal, id, "tax1", replace(base, survivors=fed.names).signed(identity).encode())
    # the least points are combined: a lie there opens to nothing
    circle = server._pending["update", ""].circle
    liar = min(reveals, key=circle.point)
    honest = Reveal.decode(reveals[liar], fed.roster)
    lie = tuple((p, d[:65] + bytes([d[65] ^ 1]) + d[66:]) for p, d in honest.shares)
    server.reveal(id, liar, replace(honest, shares=lie).signed(fed.ids[liar]).encode())
    refused("duplicate", server.reveal, id, liar, reveals[liar])
    refused("missing_member", server.open, id)
    for p in set(reveals) - {liar}:
        server.reveal(id, p, reveals[p])
    refused("bad_share", server.open, id)


@pytest.mark.parametrize(
    ("n", "colluders", "lost", "kilobytes"), [(10, 0, 0, 10), (10, 0, 1, 10), (10, 3, 3, 10), (32, 0, 1, 47)]
)
def test_small_messages_stay_small(federate, n, colluders, lost, kilobytes):
    """Everything that one node sends and gets in a round, but for the vector and the model."""
    fed = federate(n, policy(colluders), "resilient").set_up()
    values, layout, id = one_hot(fed.names), hot_layout(n), fed.id()
    data = fed.server.round(id, fed.names, layout, b"")
    alive = fed.names[lost:]
    size = dict.fromkeys(alive, len(data) - layout.nbytes)
    for p in alive:
        upload = fed.upload(p, data, values[p])
        fed.server.add(id, p, upload)
        size[p] += len(upload)
    if asked := fed.server.survivors(id):
        for p in alive:
            agreed = fed.nodes[p].handle(asked)
            fed.server.agree(id, p, agreed)
            size[p] += len(asked) + len(agreed)
    for p, request in fed.server.requests(id).items():
        size[p] += len(request) + len(fed.nodes[p].handle(request))
    assert max(size.values()) < 1000 * kilobytes


def test_a_sum_goes_on_in_another_process_at_any_point(halfway):
    """Suspended when the survivors are named, and again when they agreed; what it opens to is the same sum."""
    fed, server, id = halfway.fed, halfway.fed.server, halfway.id
    refused("wrong_state", server.suspend, id)
    agrees = halfway.agreed()
    named = server.suspend(id)
    for p, data in agrees.items():
        server.agree(id, p, data)
    settled = server.suspend(id)
    for held, asked in ((named, True), (settled, False)):
        other = ResilientServer(fed.run, fed.roster, fed.policy, fed.names, "resilient")
        assert other.resume(held) == id
        assert other.suspend(id) == held
        questions = other.questions(id)
        assert tuple(questions) == (wire_order(halfway.alive) if asked else ())
        for p, question in questions.items():
            again = fed.nodes[p].handle(question)
            assert again == agrees[p]
            other.agree(id, p, again)
        for p, request in other.requests(id).items():
            other.reveal(id, p, fed.nodes[p].handle(request))
        assert other.open(id).values["w"].tolist() == [1, 1, 1, 1, 0]


def test_a_suspended_sum_is_canonical_and_cut_ones_are_refused(halfway):
    halfway.agreed()
    held = halfway.fed.server.suspend(halfway.id)
    assert Suspended.decode(held, halfway.fed.roster).encode() == held
    for bad in (held[:-1], held + b"\0", held[:40]):
        with pytest.raises(RemoteProtocolError):
            Suspended.decode(bad, halfway.fed.roster)
