import json
import os
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.alignment.curve import POINT
from fedprofile.alignment.letters import CLAIM, PSEUDONYM, body_size
from fedprofile.alignment.psi import Owner, Partner, hash_of, read_views, split, write_views
from fedprofile.alignment.suites import SUITES
from fedprofile.data.ids import normalise_ids
from fedprofile.node.randomness import keystream_source

PLAN = bytes(range(32))
FULL_WIDTH = {ord(c): ord(c) + 0xFEE0 for c in "0123456789ABCXYZ"}
IDS = st.lists(st.text("0189AXYz 张-", min_size=1, max_size=6).filter(str.strip), max_size=25)


def rand(seed):
    return keystream_source(bytes([seed]) * 32)


def owner(ids, suite="psi", seed=1, plan=PLAN):
    return Owner(np.array(ids, dtype=np.str_), plan, SUITES[suite], rand(seed))


def partner(ids, suite="psi", seed=2, plan=PLAN, me="tax"):
    return Partner(np.array(ids, dtype=np.str_), me, plan, SUITES[suite], rand(seed))


def unique(ids):
    return sorted({str(i) for i in normalise_ids(ids)})


def odd(id, how):
    """The same customer as somebody else may write them."""
    return [id, id.lower(), f"  {id} ", id.translate(FULL_WIDTH), "\u200b" + id][how % 5]


# Each list is padded to 256 points, so what an example costs is the same however short its lists are.
@settings(max_examples=12, deadline=None)
@given(IDS, IDS, st.integers(0, 4), st.sampled_from(["psi", "plain", "plain", "plain"]))
def test_it_is_the_intersection_of_what_the_ids_mean(bank, tax, how, suite):
    """Full-width digits, case, outer spaces and invisible characters make no other customer."""
    mine, theirs = unique(bank), unique(odd(i, how + n) for n, i in enumerate([*tax, *bank[::2]]))
    a, b = owner(mine, suite), partner(theirs, suite)
    found = b.match(a.answer(b.points()), a.size, a.hash)
    common = set(mine) & set(theirs)
    assert {theirs[row] for row in found.rows.tolist()} == common
    slot_of = dict(zip(mine, a.slots.tolist(), strict=True))
    pairs = zip(found.rows.tolist(), found.slots.tolist(), strict=True)
    assert {theirs[row]: slot for row, slot in pairs} == {i: slot_of[i] for i in common}
    assert np.flatnonzero(a.known("tax", found.claims)).tolist() == sorted(slot_of[i] for i in common)


BANK, TAX = [f"C{i:03d}" for i in range(300)], [f"C{i:03d}" for i in range(280, 340)]


@pytest.fixture(scope="module")
def aligned():
    a, b = owner(BANK), partner(TAX)
    points = b.points()
    return a, b, points, a.answer(points)


def test_lists_are_padded_shuffled_and_of_their_class(aligned):
    a, b, points, answer = aligned
    assert (a.size, b.size, len(points)) == (320, 256, 256 * POINT)
    assert len(answer) == body_size("answer", 256, 320)
    mine = split(SUITES["psi"].blind([b"\1" + i.encode() for i in TAX], b._key), POINT)
    places = [split(points, POINT).index(p) for p in mine]
    assert sorted(places) != list(range(60))
    assert places != sorted(places)
    assert max(places) > 128, "customers stand among the padding, not before it"


def test_padding_is_made_of_points_like_all_others(aligned):
    """Each value once, each on the curve: evaluating them is refused for none."""
    _, _, points, answer = aligned
    assert len(set(split(points, POINT))) == 256
    assert len(set(split(answer[: 256 * POINT], POINT))) == 256
    assert len(set(split(answer[256 * POINT :], PSEUDONYM))) == 320
    assert answer[256 * POINT :] == b"".join(sorted(split(answer[256 * POINT :], PSEUDONYM)))


def test_equal_secrets_give_equal_messages_and_others_do_not():
    assert partner(TAX).points() == partner(TAX).points() != partner(TAX, seed=3).points()
    assert owner(BANK, "plain").hash == owner(BANK, "plain").hash
    others = [owner(BANK, "plain", 3), owner(BANK, "plain", plan=bytes(32)), owner(BANK[1:], "plain"), owner(BANK)]
    assert len({o.hash for o in (owner(BANK, "plain"), *others)}) == 5


def test_kept_values_save_the_work(aligned, monkeypatch):
    a, *_ = aligned
    monkeypatch.setattr(SUITES["psi"].__class__, "own", None)
    again = Owner(np.array(BANK), PLAN, SUITES["psi"], rand(1), a.values)
    assert (again.hash, again.slots.tolist()) == (a.hash, a.slots.tolist())


def test_pseudonyms_and_claims_are_those_of_an_independent_implementation(known):
    keyed = [int.from_bytes(bytes.fromhex(known[k]), "little") for k in ("k_owner", "k_partner")]
    ids = [v["id"] for v in known["vectors"]]
    plan = bytes.fromhex(known["plan"])
    a, b = owner(ids, plan=plan), partner(ids, plan=plan, me=known["party"])
    values = b"".join(bytes.fromhex(v["value"]) for v in known["vectors"])
    a = Owner(np.array(ids), plan, SUITES["psi"], rand(1), values)
    a._key, b._key = keyed
    answer = a.answer(b.points())
    names = split(answer[256 * POINT :], PSEUDONYM)
    assert [names[s].hex() for s in a.slots.tolist()] == [v["pseudonym"] for v in known["vectors"]]
    found = b.match(answer, a.size, a.hash)
    claims = split(found.claims, CLAIM)
    by_row = dict(zip(found.rows.tolist(), found.slots.tolist(), strict=True))
    assert [claims[by_row[row]].hex() for row in range(len(ids))] == [v["claim"] for v in known["vectors"]]


def test_a_customer_that_was_not_asked_about_cannot_be_claimed(aligned):
    """Not with chance, not with another partner's tokens, not by the pseudonym that everybody has."""
    a, b, _, answer = aligned
    found = b.match(answer, a.size, a.hash)
    assert a.known("tax", found.claims).sum() == 20
    assert a.known("shop", found.claims).sum() == 0
    assert a.known("tax", answer[256 * POINT :]).sum() == 0
    assert a.known("tax", bytes(320 * CLAIM)).sum() == 0
    moved = found.claims[CLAIM:] + found.claims[:CLAIM]
    assert a.known("tax", moved).sum() == 0


def test_slots_without_a_claim_look_like_claims(aligned):
    a, b, _, answer = aligned
    claims = split(b.match(answer, a.size, a.hash).claims, CLAIM)
    assert len(set(claims)) == 320


def test_hostile_points_are_refused(aligned, code_of):
    a, _, points, _ = aligned
    off = points[:-POINT] + bytes(POINT)
    assert code_of(lambda: a.answer(off)) == "bad_point"
    assert code_of(lambda: a.answer(points[:-1])) == "wrong_length"
    assert code_of(lambda: a.answer(points[:-POINT] + points[:POINT])) == "duplicate_points"


def test_hostile_answers_are_refused(aligned, code_of):
    a, b, _, answer = aligned
    cut, spine = 256 * POINT, answer[256 * POINT :]
    assert code_of(lambda: b.match(answer + bytes(PSEUDONYM), a.size, a.hash)) == "wrong_length"
    assert code_of(lambda: b.match(answer, a.size + 1, a.hash)) == "wrong_length"
    assert code_of(lambda: b.match(answer, a.size, bytes(32))) == "wrong_spine"
    other = spine[PSEUDONYM:] + spine[:PSEUDONYM]
    assert code_of(lambda: b.match(answer[:cut] + other, a.size, a.hash)) == "wrong_spine"
    twice = spine[:-PSEUDONYM] + spine[:PSEUDONYM]
    assert code_of(lambda: b.match(answer[:cut] + twice, a.size, hash_of(twice, PLAN))) == "duplicate_points"
    off = bytes(256 * POINT) + spine
    assert code_of(lambda: b.match(off, a.size, a.hash)) == "bad_point"
    assert code_of(lambda: a.known("tax", bytes(320 * CLAIM - 1))) == "wrong_length"


def test_an_answer_under_another_key_finds_nobody(aligned):
    a, b, points, _ = aligned
    forged = owner(BANK, seed=9).answer(points)[: 256 * POINT] + a.answer(points)[256 * POINT :]
    assert len(b.match(forged, a.size, a.hash).rows) == 0


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_views_survive_their_encoding(enough):
    views = write_views(np.array(enough))
    assert read_views(views, len(enough)).tolist() == enough
    assert len(views) == body_size("views", 0, len(enough))


def test_views_of_another_spine_are_refused(code_of):
    assert code_of(lambda: read_views(b"\0", 9)) == "wrong_length"


def test_no_repr_shows_a_key_or_an_id(aligned):
    a, b, *_ = aligned
    assert (repr(a), repr(b)) == ("Owner()", "Partner('tax')")
    assert "C29" not in repr(b.match(aligned[3], a.size, a.hash))


ORACLE = "FEDPROFILE_OPENMINED_PYTHON"
"""Names the interpreter of an environment of its own: openmined-psi pins a protobuf that Flower cannot use."""
INTERSECTION = """
import json, sys
import private_set_intersection.python as psi
bank, tax = json.load(sys.stdin)
client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)
setup = server.CreateSetupMessage(1e-9, len(tax), bank, psi.DataStructure.RAW)
response = server.ProcessRequest(client.CreateRequest(tax))
print(json.dumps(sorted(client.GetIntersection(setup, response))))
"""


@pytest.mark.skipif(ORACLE not in os.environ, reason=f"{ORACLE} names no interpreter that has openmined-psi")
@pytest.mark.parametrize("seed", range(4))
def test_openmined_psi_finds_the_same_customers(seed):
    """An oracle that shares no code with ours, on random sets that share none, some or all customers."""
    chosen = np.random.default_rng(seed)
    bank, tax = (sorted({f"C{i}" for i in chosen.integers(0, 500, chosen.integers(1, 400))}) for _ in range(2))
    ran = subprocess.run(
        [os.environ[ORACLE], "-c", INTERSECTION],
        input=json.dumps([bank, tax]),
        text=True,
        capture_output=True,
        check=True,
    )
    a, b = owner(bank), partner(tax)
    assert sorted(b.match(a.answer(b.points()), a.size, a.hash).rows.tolist()) == json.loads(ran.stdout)
