"""What a node refuses, as a table; every refusal leaves it as it was."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from fedprofile.errors import LocalProtocolError, PolicyRefusal, ProtocolError, RemoteProtocolError
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.graph import graph_of
from fedprofile.secagg.identity import Identity, sign_roster
from fedprofile.secagg.messages import Round, SetupReq
from fedprofile.secagg.policy import check_survivors, hidden, stricter, tolerance
from fedprofile.secagg.record import DAY_SECONDS, Record
from fedprofile.secagg.server import ServerSession
from fedprofile.secagg.transitions import STRICT_AT_NODE
from fedprofile.secagg.wire import wire_order
from fedprofile.types import Layout, Party, Policy, Roster, Segment


@pytest.mark.parametrize(
    ("members", "opener", "colluders_tolerated"),
    [
        ("bank a b", "", 0),
        ("a b c", "", 0),
        ("bank a b c", "", 1),
        ("bank a b c d e f g h i", "", 7),
        ("bank a b c", "bank", 1),
        ("bank a", "", -1),
    ],
)
def test_tolerance_is_that_of_section_9_1(members, opener, colluders_tolerated):
    assert tolerance(members.split(), "bank", opener) == colluders_tolerated
    assert hidden(members.split(), "bank", opener, colluders=1) == colluders_tolerated + 1


def _with(round, **changes):
    id_changes = {k: changes.pop(k) for k in ("kind", "scope", "opener", "t", "attempt", "run_id") if k in changes}
    return replace(round, id=replace(round.id, **id_changes), **changes)


WIDE = Layout((Segment("w", (4,), 32, 1.0, 2**-20),))
CLIP = Layout((Segment("w", (4,), 16, 1.5, 2**-10),))
OVER = Layout((Segment("w", (4,), 16, 1.0, 2**-14),))
FINE = Layout((Segment("w", (4,), 16, 8.0, 1 / 64),))
TWICE = Layout((CLIP.segments[0], CLIP.segments[0]))
FACTS = Layout((Segment("w", (257,), 64, 2.0**20, 2**-10),))
FACT = Layout((Segment("meta", (1,), 64, 1.0, 1.0),))

ROUNDS = {
    "cohort of one": ({"cohort": ("tax1",)}, "too_few_hidden"),
    "cohort of two": ({"cohort": ("bank", "tax1")}, "too_few_hidden"),
    "without this node": ({"cohort": ("bank", "tax2", "tax3")}, "cohort_refused"),
    "wider ring": ({"layout": WIDE}, "ring_refused"),
    "wider clip": ({"layout": CLIP}, "clip_refused"),
    "tensors in Z_2^64": ({"layout": FACTS}, "clip_refused"),
    "Z_2^64 in a role": (
        {"kind": "role", "scope": "tax", "cohort": ("tax1", "tax2", "tax3"), "layout": FACT},
        "clip_refused",
    ),
    "finer score": ({"kind": "score", "opener": "bank", "layout": FINE}, "clip_refused"),
    "overflow": ({"layout": OVER}, "layout_overflow"),
    "name twice": ({"layout": TWICE}, "bad_layout"),
    "score for the coordinator": ({"kind": "score"}, "wrong_opener"),
    "score for a partner": ({"kind": "score", "opener": "tax1"}, "wrong_opener"),
    "update for the bank": ({"opener": "bank"}, "wrong_opener"),
    "opener without masks": ({"kind": "score", "opener": "bank", "cohort": ("tax1", "tax2", "tax3")}, "cohort_refused"),
    "role without scope": ({"kind": "role"}, "cohort_refused"),
    "role of others": ({"kind": "role", "scope": "tax"}, "cohort_refused"),
    "another policy": ({"policy_hash": b"\1" * 32}, "wrong_policy"),
    "another run": ({"run_id": b"\1" * 32}, "wrong_run"),
    "too far ahead": ({"t": 5000}, "round_jump"),
    "repeated": ({"t": 1}, "stale_round"),
    "keys erased": ({"t": 0, "kind": "stats"}, "stale_round"),
    "cohort without one": ({"cohort": ("bank", "tax1", "tax2")}, "cohort_refused"),
}


@pytest.mark.parametrize("case", ROUNDS)
def test_round_refused(federate, case):
    changes, code = ROUNDS[case]
    fed = federate(4, Policy(rings=(16, 64))).set_up()
    layout = Layout((Segment("w", (4,), 16, 1.0, 2**-10),))
    values = fed.integers(layout)
    first = fed.server.round(fed.id(t=1), fed.names, layout, b"m")
    fed.server.open(fed.id(t=1), fed.uploads(first, values))
    base = replace(Round.decode(first, fed.roster), id=fed.id(t=2))
    bad = _with(base, **changes)
    node = fed.nodes["tax1"]
    with pytest.raises(ProtocolError) as refused:
        node.verify_round(replace(bad, cohort=wire_order(bad.cohort)).encode())
    assert refused.value.code == code
    assert len(fed.journals["tax1"]) == 2
    node.contribute(node.verify_round(base.encode()), values["tax1"])


def test_a_run_has_one_roster(federate, layout):
    """Disjoint parts pass the hidden minimum and the differencing rule, and no member of one sees the other."""
    fed = federate(7)
    parts = ("bank", "tax1", "tax2"), ("tax3", "tax4", "tax5", "tax6")
    for part in parts:
        with pytest.raises(PolicyRefusal, match="cohort_refused"):
            fed.nodes[part[-1]].handle(_request(fed, cohort=wire_order(part)))
    fed.set_up()
    whole = Round.decode(fed.server.round(fed.id(), fed.names, layout, b"m"), fed.roster)
    role = _with(whole, kind="role", scope="tax")
    for bad in [
        *(replace(whole, cohort=wire_order(part)) for part in parts),
        replace(role, cohort=wire_order(parts[1])),
    ]:
        with pytest.raises(PolicyRefusal, match="cohort_refused"):
            fed.nodes[parts[1][0]].verify_round(bad.encode())
        with pytest.raises(PolicyRefusal, match="cohort_refused"):
            fed.server.round(bad.id, bad.cohort, layout, b"m")


def test_rosters_of_two_runs_differ_by_enough(federate, layout):
    """Section 9.5: the journal outlives runs; here the sum of a first run had one or two members less."""
    for fewer, refused in ((1, True), (2, False)):
        fed = federate(6, Policy(colluders=0)).set_up()
        members = list(wire_order(fed.names))[:-fewer]
        past = {"event": "upload", "at": 0, "run": "ab" * 32, "kind": "update", "scope": "", "t": 0, "attempt": 0}
        past |= {"members": members, "basis": "", "score": "", "mac": "", "root": ""}
        me = members[0]
        fed.nodes[me] = fed.session(me, history=[past, *fed.journals[me]])
        fed.set_up()
        data = fed.server.round(fed.id(), fed.names, layout, b"m")
        if refused:
            with pytest.raises(PolicyRefusal, match="differencing"):
                fed.nodes[me].verify_round(data)
        else:
            fed.nodes[me].verify_round(data)


def test_caps_hold_across_a_restart(federate, layout, score_layout):
    fed = federate(4, Policy(max_uploads=3, max_openings=1)).set_up()
    values = fed.integers(layout)
    scores = fed.integers(score_layout)["tax1"]
    for t in range(2):
        fed.uploads(fed.server.round(fed.id(t=t), fed.names, layout, b"m"), {"tax1": values["tax1"]})
    fed.upload("tax1", fed.server.round(fed.id("score", 2), fed.names, score_layout, b""), scores)
    fed.nodes["tax1"] = fed.session("tax1", history=fed.journals["tax1"])
    fed.set_up(base_t=3)
    node = fed.nodes["tax1"]
    with pytest.raises(PolicyRefusal, match="too_many_uploads"):
        node.verify_round(fed.server.round(fed.id(t=3), fed.names, layout, b"m"))
    node.policy = replace(node.policy, max_uploads=9)
    second = fed.server.round(fed.id("score", 3), fed.names, score_layout, b"", bundle_hash=b"\1" * 32)
    with pytest.raises(PolicyRefusal, match="too_many_openings"):
        node.verify_round(second)
    node.policy = replace(node.policy, max_openings=2)
    node.verify_round(second)


def test_a_days_cap_spans_runs_and_ends_with_the_day(federate, layout):
    now = [86_400.0 * 20_000]
    fed = federate(4, Policy(max_uploads_day=2))
    fed.nodes["tax1"] = fed.session("tax1", clock=lambda: now[0])
    fed.set_up()
    values = fed.integers(layout)["tax1"]
    rounds = [fed.server.round(fed.id(t=t), fed.names, layout, b"m") for t in range(4)]
    for t in (0, 1):
        fed.upload("tax1", rounds[t], values)
    assert [e["at"] for e in fed.journals["tax1"][1:]] == [86_400 * 20_000] * 2
    now[0] += 86_399
    with pytest.raises(PolicyRefusal, match="too_many_uploads"):
        fed.nodes["tax1"].verify_round(rounds[2])
    # another run of this node, which knows the first by the journal alone
    round = Round.decode(rounds[0], fed.roster)
    another = replace(round, id=replace(round.id, run_id=b"\1" * 32))
    with pytest.raises(PolicyRefusal, match="too_many_uploads"):
        Record(fed.journals["tax1"]).check_round(another, fed.policy, STRICT_AT_NODE, 86_400.0 * 20_000)
    Record(fed.journals["tax1"]).check_round(another, fed.policy, STRICT_AT_NODE, 86_400.0 * 20_001)
    now[0] += 1
    fed.upload("tax1", rounds[3], values)


def test_two_epochs_of_one_alignment_and_bundle_are_a_day_apart(federate, score_layout):
    """Also after a restart, and for a clock that was set back; another bundle has its own day."""
    fed, now = federate(4), [1e9]
    fed.nodes["tax1"] = fed.session("tax1", clock=lambda: now[0])
    fed.set_up()
    scores = fed.integers(score_layout)["tax1"]

    def round(t, epoch, attempt=0, **hashes):
        return fed.server.round(fed.id("score", t, attempt), fed.names, score_layout, b"", epoch=epoch, **hashes)

    fed.upload("tax1", round(0, 1), scores)
    for seconds in (0, 60, 86_399, -86_400):
        now[0] = 1e9 + seconds
        with pytest.raises(PolicyRefusal, match="epoch_too_soon"):
            fed.nodes["tax1"].verify_round(round(1, 2))
    fed.upload("tax1", round(0, 1, attempt=1), scores)
    fed.upload("tax1", round(1, 2, bundle_hash=b"\1" * 32), scores)
    fed.nodes["tax1"] = fed.session("tax1", clock=lambda: now[0], history=fed.journals["tax1"])
    fed.set_up(base_t=2)
    now[0] = 1e9 + 60
    with pytest.raises(PolicyRefusal, match="epoch_too_soon"):
        fed.nodes["tax1"].verify_round(round(2, 2))
    now[0] = 1e9 + 86_400
    fed.upload("tax1", round(2, 2), scores)


def _request(fed, **changes):
    return replace(SetupReq.decode(fed.server.setup_request(), fed.roster), **changes).encode()


def test_set_up_refused(federate):
    fed = federate(4)
    cases = {
        "unknown_party": {"cohort": (*fed.names, "zed")},
        "too_few_hidden": {"cohort": ("bank", "tax1")},
        "cohort_refused": {"cohort": ("bank", "tax2", "tax3")},
        "wrong_roster": {"roster_hash": b"\1" * 32},
        "wrong_policy": {"policy_hash": b"\1" * 32},
        "wrong_schema": {"schema_hash": b"\1" * 32},
        "profile_mismatch": {"profile": "none"},
    }
    for code, changes in cases.items():
        with pytest.raises(ProtocolError) as refused:
            fed.nodes["tax1"].handle(_request(fed, **changes))
        assert refused.value.code == code
    assert fed.journals["tax1"] == []


def test_set_up_number_is_used_once(federate):
    fed = federate(3).set_up()
    node = fed.nodes["tax1"]
    for setup in (1, 0):
        with pytest.raises(RemoteProtocolError, match="setup_reused"):
            node.handle(_request(fed, setup=setup))
    with pytest.raises(RemoteProtocolError, match="setup_reused"):
        fed.session("tax1", history=fed.journals["tax1"]).handle(_request(fed, setup=1))
    with pytest.raises(RemoteProtocolError, match="wrong_run"):
        node.handle(_request(fed, run_id=b"\1" * 32))
    for setup in range(2, 11):
        node.handle(_request(fed, setup=setup))
    with pytest.raises(PolicyRefusal, match="too_many_setups"):
        node.handle(_request(fed, setup=11))


def test_ten_set_ups_a_run_and_day(federate):
    """Of the UTC day; a clock that was set back wins nothing, nor does a journal that knows no time yet."""
    fed, now = federate(3), [10.5 * DAY_SECONDS]
    node = fed.nodes["tax1"] = fed.session("tax1", clock=lambda: now[0])
    for setup in range(1, 11):
        node.handle(_request(fed, setup=setup))
    for day in (10.9, 9.0):
        now[0] = day * DAY_SECONDS
        with pytest.raises(PolicyRefusal, match="too_many_setups"):
            node.handle(_request(fed, setup=11))
    now[0] = 11.0 * DAY_SECONDS
    node.handle(_request(fed, setup=11))
    old = [{k: v for k, v in e.items() if k != "at"} for e in fed.journals["tax1"]][:10]
    with pytest.raises(PolicyRefusal, match="too_many_setups"):
        fed.session("tax1", clock=lambda: now[0], history=old).handle(_request(fed, setup=11))


def test_two_parties_only_by_explicit_choice(federate, layout, expected):
    with pytest.raises(PolicyRefusal, match="too_few_hidden"):
        federate(2)
    fed = federate(2, Policy(min_hidden=1)).set_up()
    assert fed.server.open(
        fed.id(), fed.uploads(fed.server.round(fed.id(), fed.names, layout, b""), fed.integers(layout))
    )
    fed.nodes["tax1"].policy = Policy()
    with pytest.raises(PolicyRefusal, match="too_few_hidden"):
        fed.nodes["tax1"].handle(fed.server.setup_request(1))


def test_own_stricter_policy_holds_under_the_common_one(federate):
    fed = federate(4)
    own = Policy(colluders=2)
    node = ClientSession(*fed.arguments("tax1", own), common=fed.policy)
    with pytest.raises(PolicyRefusal, match="too_few_hidden"):
        node.handle(fed.server.setup_request())
    both = stricter(Policy(clip=0.5, rings=(16,), max_points=512), Policy(max_uploads=7, recompute=True))
    limits = (both.clip, both.rings, both.max_uploads, both.max_points, both.recompute)
    assert limits == (0.5, (16,), 7, 512, True)


def test_sybil_and_wrong_identity(federate):
    fed = federate(3)
    with pytest.raises(LocalProtocolError, match="unknown_party"):
        ServerSession(b"\1" * 32, fed.roster, fed.policy, (*fed.names, "sybil"))
    fed.ids["tax1"] = fed.ids["tax2"]
    with pytest.raises(LocalProtocolError, match="bad_identity"):
        fed.session("tax1")
    # a coordinator that keeps its own roster with a sybil in it: the others do not know the wire id
    names = (*fed.names, "sybil")
    ids = {p: Identity.from_seed(p.encode().ljust(32, b"s")) for p in names}
    parties = tuple(Party(p, p, "tax", ids[p].sign_pk) for p in names)
    other = sign_roster(Roster(1, b"", parties, "bank"), ids)
    server = ServerSession(b"\1" * 32, other, fed.policy, names)
    with pytest.raises(RemoteProtocolError, match="unknown_party"):
        fed.nodes["bank"].handle(server.setup_request())


def test_differencing_is_accepted_only_by_both():
    yes, no = Policy(accept_differencing=True), Policy()
    assert [stricter(a, b).accept_differencing for a, b in ((yes, yes), (yes, no), (no, yes))] == [True, False, False]
    assert Policy.from_json(yes.to_json()) == yes
    assert Policy.from_json(no.to_json()) == no
    assert yes.hash != no.hash


@pytest.mark.parametrize(
    ("n", "survivors", "colluders", "code"),
    [
        (4, 3, 0, ""),
        (4, 2, 0, "too_few_survivors"),
        (10, 7, 3, ""),
        (10, 6, 3, "too_few_survivors"),
        (3, 2, 0, "too_few_hidden"),
        (50, 48, 2, ""),  # degree 8, quorum 27: losses and colluders stay below 8
        (50, 45, 2, ""),
        (50, 44, 2, "too_few_survivors"),
    ],
)
def test_survivors(federate, n, survivors, colluders, code):
    fed = federate(n)
    check = partial(check_survivors, Policy(colluders=colluders), fed.roster, graph_of(n, colluders))
    if not code:
        return check(fed.names[:survivors])
    with pytest.raises(PolicyRefusal, match=code):
        check(fed.names[:survivors])
    return None
