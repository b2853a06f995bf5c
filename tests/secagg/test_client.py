"""A node's side end to end: exactness, binding, retry, score sums, restoring."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import LocalProtocolError, PolicyRefusal, ProtocolError, RemoteProtocolError
from fedprofile.secagg.client import ClientSession, State
from fedprofile.secagg.encoding import pack, quantise
from fedprofile.secagg.keystream import SEGMENT
from fedprofile.secagg.messages import Round, Upload, expected_upload_size
from fedprofile.secagg.server import ServerSession
from fedprofile.secagg.tree import LEAF
from fedprofile.secagg.wire import wire_order
from fedprofile.types import Layout, Segment


def _same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(3, 12),
    shapes=st.lists(st.tuples(st.sampled_from((16, 32, 64)), st.integers(1, 40)), min_size=1, max_size=5),
    seed=st.integers(0, 2**31),
    profile=st.sampled_from(("strict", "strict", "none")),
)
def test_sum_is_exact_for_mixed_rings(federate, expected, n, shapes, seed, profile):
    steps = {16: 2**15 // n - 1, 32: 2**31 // n - 1, 64: 2**53 // n - 1}
    layout = Layout(
        tuple(
            # the widest values that cannot overflow, and the full clip reached
            Segment(
                f"s{i}", (size,), ring, steps[ring] * (2.0**-40 if ring != 64 else 1.0), 2.0**-40 if ring != 64 else 1.0
            )
            for i, (ring, size) in enumerate(shapes)
        )
    )
    fed = federate(n, profile=profile).set_up()
    values = fed.integers(layout, seed)
    round = fed.server.round(fed.id(), fed.names, layout, b"model")
    opened = fed.server.open(fed.id(), fed.uploads(round, values))
    _same(opened.values, expected(layout, values))
    assert opened.members == wire_order(fed.names)


def test_threads_change_no_byte(federate, expected):
    layout = Layout(
        (
            Segment("w", (SEGMENT + 9,), 16, 1.0, 2**-10),
            Segment("b", (5,), 32, 1.0, 2**-20),
            Segment("n", (2,), 64, 9.0, 1.0),
        )
    )
    uploads, opened = [], []
    for threads in (1, 2):
        fed = federate(3)
        fed.server = ServerSession(bytes(32), fed.roster, fed.policy, fed.names, threads=threads)
        fed.nodes = {p: fed.session(p, threads=threads) for p in fed.names}
        values, round_id = fed.set_up().integers(layout), replace(fed.id(), run_id=bytes(32))
        uploads.append(fed.uploads(fed.server.round(round_id, fed.names, layout, bytes(3 * LEAF + 1)), values))
        opened.append(fed.server.open(round_id, uploads[-1]).values)
        _same(opened[-1], expected(layout, values))
    assert uploads[0] == uploads[1]


def test_masks_hide_and_uploads_have_their_exact_size(federate, layout):
    fed = federate(4).set_up()
    zeros = {p: quantise({s.name: np.zeros(s.shape) for s in layout.segments}, layout, os.urandom) for p in fed.names}
    uploads = fed.uploads(fed.server.round(fed.id(), fed.names, layout, b"m"), zeros)
    for data in uploads.values():
        assert len(data) == expected_upload_size(layout)
        y = bytes(Upload.decode(data, fed.roster).y)
        assert sum(b == 0 for b in y) < len(y) // 8
    assert not any(fed.server.open(fed.id(), uploads).values["w"].ravel())


@pytest.mark.parametrize("what", ["model", "layout", "epoch", "spine", "kind", "attempt"])
def test_one_client_with_another_round_does_not_cancel(federate, layout, expected, what):
    """The coordinator equivocates: it is refused by its own check, and even without it the sum is noise."""
    fed = federate(5).set_up()
    values = fed.integers(layout)
    data = fed.server.round(fed.id("stats"), fed.names, layout, b"model")
    base = Round.decode(data, fed.roster)
    other = {
        "model": replace(base, model=b"modem"),
        "layout": replace(base, layout=Layout((replace(layout.segments[0], clip=0.5), *layout.segments[1:]))),
        "epoch": replace(base, epoch=1),
        "spine": replace(base, spine_hash=b"\1" * 32),
        "kind": replace(base, id=replace(base.id, kind="update")),
        "attempt": replace(base, id=replace(base.id, attempt=1)),
    }[what]
    uploads = {p: fed.upload(p, other.encode() if p == "tax1" else data, q) for p, q in values.items()}
    with pytest.raises(RemoteProtocolError) as refused:
        fed.server.open(base.id, uploads)
    assert refused.value.code == "wrong_round"
    total = sum(np.frombuffer(Upload.decode(u, fed.roster).y, "<u2", 32, 8 * 4 + 5 * 4) for u in uploads.values())
    right = sum(np.frombuffer(pack(q, layout), "<u2", 32, 8 * 4 + 5 * 4) for q in values.values())
    assert np.count_nonzero(total == right) <= 2


def test_retry_sends_the_same_integers_and_opens_to_the_same_sum(federate, layout, expected):
    fed = federate(4).set_up()
    values = fed.integers(layout)
    first = fed.server.round(fed.id(t=3), fed.names, layout, b"m")
    lost = fed.uploads(first, values)
    again = fed.server.round(fed.id(t=3, attempt=1), fed.names, layout, b"m")
    node = fed.nodes["tax1"]
    for bad in (
        replace(Round.decode(again, fed.roster), **c)
        for c in ({"model": b"x"}, {"cohort": fed.names[:3]}, {"epoch": 9})
    ):
        with pytest.raises(PolicyRefusal, match=r"retry_differs|cohort_refused"):
            fed.nodes["bank"].verify_round(replace(bad, cohort=wire_order(bad.cohort)).encode())
    round = node.verify_round(again)
    with pytest.raises(LocalProtocolError, match="retry_differs"):
        node.contribute(round, fed.integers(layout, seed=1)["tax1"])
    uploads = {"tax1": node.contribute(round, values["tax1"])}
    uploads |= fed.uploads(again, {p: q for p, q in values.items() if p != "tax1"})
    assert all(uploads[p] != lost[p] for p in fed.names)
    _same(fed.server.open(fed.id(t=3, attempt=1), uploads).values, expected(layout, values))


def test_retry_after_a_restart_needs_a_set_up_and_the_same_integers(federate, layout, expected):
    fed = federate(3).set_up()
    values = fed.integers(layout)
    lost = fed.uploads(fed.server.round(fed.id(t=2), fed.names, layout, b"m"), values)
    fed.nodes["tax1"] = fed.session("tax1", history=fed.journals["tax1"])
    with pytest.raises(RemoteProtocolError, match="need_setup"):
        fed.nodes["tax1"].verify_round(fed.server.round(fed.id(t=2, attempt=1), fed.names, layout, b"m"))
    fed.set_up(base_t=2)
    with pytest.raises(RemoteProtocolError, match="stale_round"):
        fed.nodes["tax1"].verify_round(fed.server.round(fed.id(t=2), fed.names, layout, b"m"))
    again = fed.server.round(fed.id(t=2, attempt=1), fed.names, layout, b"m")
    round = fed.nodes["tax1"].verify_round(again)
    with pytest.raises(LocalProtocolError, match="retry_differs"):
        fed.nodes["tax1"].contribute(round, fed.integers(layout, seed=1)["tax1"])
    uploads = {"tax1": fed.nodes["tax1"].contribute(round, values["tax1"])}
    uploads |= fed.uploads(again, {p: values[p] for p in ("bank", "tax2")})
    assert uploads["tax1"] != lost["tax1"]
    _same(fed.server.open(fed.id(t=2, attempt=1), uploads).values, expected(layout, values))


def test_no_pad_is_used_twice(federate, layout):
    """Equal integers in every kind, scope, t, attempt and set-up never give equal bytes twice."""
    fed, seen = federate(5), []
    layout = Layout(tuple(s for s in layout.segments if s.ring != 64))  # which a role may not carry
    values = fed.integers(layout)
    for base_t in (0, 3):
        fed.set_up(base_t)
        for t in (base_t, base_t + 1):
            for kind, scope in (("stats", ""), ("update", ""), ("role", "tax")):
                cohort = [p for p in fed.names if not scope or p != "bank"]
                for attempt in (0, 1):
                    round = fed.server.round(fed.id(kind, t, attempt, scope), tuple(cohort), layout, b"m")
                    seen.append(bytes(Upload.decode(fed.upload("tax1", round, values["tax1"]), fed.roster).y))
    vectors = [np.frombuffer(y, np.uint8) for y in seen]
    assert len(set(seen)) == 24
    assert max(np.mean(a == b) for i, a in enumerate(vectors) for b in vectors[:i]) < 0.2


def test_only_the_label_owner_opens_a_score_sum(federate, score_layout, expected):
    fed = federate(4).set_up()
    partners = [p for p in fed.names if p != "bank"]
    values = {p: q for p, q in fed.integers(score_layout).items() if p != "bank"}
    data = fed.server.round(fed.id("score"), fed.names, score_layout, b"")
    uploads = fed.uploads(data, values)
    bank = fed.nodes["bank"]
    round = bank.verify_round(data)
    with pytest.raises(LocalProtocolError, match="opener_uploads_nothing"):
        bank.contribute(round, values["tax1"])
    with pytest.raises(LocalProtocolError, match="wrong_opener"):
        fed.server.open(fed.id("score"), uploads)
    masked = fed.server.masked_sum(fed.id("score"), uploads)
    # what the coordinator holds: 16384 numbers, 256 bins, 255 degrees of freedom, 6 standard deviations
    y = np.frombuffer(masked[-score_layout.nbytes :], "<u2")
    counts = np.bincount(y >> 8, minlength=256)
    chi2 = np.sum((counts - len(y) / 256) ** 2 / (len(y) / 256))
    assert abs(chi2 - 255) < 6 * np.sqrt(2 * 255)
    with pytest.raises(LocalProtocolError, match=r"wrong_opener|already_contributed"):
        fed.nodes["tax1"].open_sum(masked, round)
    _same(bank.open_sum(masked, round), expected(score_layout, values))
    with pytest.raises(PolicyRefusal, match="opened_before"):
        bank.open_sum(masked, round)
    retry = fed.server.round(fed.id("score", attempt=1), fed.names, score_layout, b"")
    again = fed.uploads(retry, values)
    with pytest.raises(PolicyRefusal, match="opened_before"):
        bank.open_sum(fed.server.masked_sum(fed.id("score", attempt=1), again), bank.verify_round(retry))
    with pytest.raises(PolicyRefusal, match="opened_before"):
        fed.nodes[partners[0]].verify_round(fed.server.round(fed.id("score", t=1), fed.names, score_layout, b""))


def test_a_subset_of_a_score_sum_opens_to_noise(federate, score_layout):
    fed = federate(4).set_up()
    values = {p: q for p, q in fed.integers(score_layout).items() if p != "bank"}
    data = fed.server.round(fed.id("score"), fed.names, score_layout, b"")
    uploads = fed.uploads(data, values)
    pending = fed.server._pending["score", ""]
    pending.tally.seen.add("tax3")
    masked = fed.server.masked_sum(fed.id("score"), {p: uploads[p] for p in ("tax1", "tax2")})
    opened = fed.nodes["bank"].open_sum(masked, fed.nodes["bank"].verify_round(data))["scores"]
    assert np.mean(np.abs(opened) > 16) > 0.9


def test_restored_sessions_continue_bit_identically(federate, layout, expected):
    fed, journals = federate(3).set_up(), {}
    values = fed.integers(layout)
    fed.server.open(fed.id(), fed.uploads(fed.server.round(fed.id(), fed.names, layout, b"m"), values))
    restored = {}
    for p, node in fed.nodes.items():
        history, journals[p] = list(fed.journals[p]), []
        arguments = (*fed.arguments(p)[:-1], journals[p].append)
        restored[p] = ClientSession.restore(node.transcript(), *arguments, history=history)
        assert restored[p].own_seal_key().private_bytes_raw() == node.own_seal_key().private_bytes_raw()
        assert restored[p].peer_seal_key("bank") == fed.nodes["bank"].own_seal_key().public_key().public_bytes_raw()
    data = fed.server.round(fed.id(t=5), fed.names, layout, b"m")
    live = fed.uploads(data, values)
    assert {p: s.contribute(s.verify_round(data), values[p]) for p, s in restored.items()} == live
    assert all(len(j) == 1 and j[0]["event"] == "upload" for j in journals.values())
    _same(fed.server.open(fed.id(t=5), live).values, expected(layout, values))
    with pytest.raises(RemoteProtocolError, match="stale_round"):
        restored["bank"].verify_round(fed.server.round(fed.id("stats", t=4), fed.names, layout, b"m"))
    foreign = (*fed.arguments("bank")[:4], os.urandom, list.append)
    with pytest.raises(RemoteProtocolError, match="restore_mismatch"):
        ClientSession.restore(fed.nodes["bank"].transcript(), *foreign)
    fed.nodes["bank"].handle(fed.server.setup_request(6))
    with pytest.raises(RemoteProtocolError, match="setup_reused"):
        ClientSession.restore(restored["bank"].transcript(), *fed.arguments("bank"), history=fed.journals["bank"])


def test_journal_comes_first_and_holds_no_integer(federate, layout):
    fed = federate(3).set_up()
    values = fed.integers(layout)
    node, round = fed.nodes["tax1"], None

    def broken(_entry):
        raise OSError("disk full")

    round = node.verify_round(fed.server.round(fed.id(), fed.names, layout, b"m"))
    node._journal = broken
    with pytest.raises(OSError, match="disk full"):
        node.contribute(round, values["tax1"])
    node._journal = fed.journals["tax1"].append
    node.contribute(round, values["tax1"])
    entry = fed.journals["tax1"][-1]
    allowed = {
        "event",
        "at",
        "run",
        "kind",
        "scope",
        "t",
        "attempt",
        "members",
        "basis",
        "score",
        "mac",
        "root",
        "audit_head",
    }
    assert set(entry) == allowed
    with pytest.raises(LocalProtocolError, match="already_contributed"):
        node.contribute(round, values["tax1"])
    node.close()
    assert node.state is State.CLOSED
    with pytest.raises(ProtocolError):
        node.handle(fed.server.setup_request())
