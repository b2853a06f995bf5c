import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.alignment import union
from fedprofile.alignment.curve import POINT
from fedprofile.alignment.letters import size_class
from fedprofile.alignment.psi import split
from fedprofile.alignment.union import NAME, SHARES, Holder, name_of, slots_of, unite
from fedprofile.node.randomness import keystream_source

ROSTER = bytes(range(32, 64))
LISTS = {
    "bank": [f"C{i:03d}" for i in range(300)],
    "shop": [f"C{i:03d}" for i in range(250, 330)],
    "tax": [f"C{i:03d}" for i in (*range(260, 310), *range(400, 420))],
}


def holder(ids, party, run=0, roster=ROSTER):
    """Its lasting secret follows from the party, its fresh one from the run as well."""
    lasting, fresh = (keystream_source(bytes([len(party), ord(party[0]), n]) + bytes(29)) for n in (0, 1 + run))
    return Holder(np.array(ids, dtype=np.str_), roster, lasting, fresh)


def named(lists, run=0, watch=lambda *_: None):
    """Each party's names, after its list has been round all others; ``watch`` sees who masks whose points."""
    sides = {p: holder(ids, p, run) for p, ids in lists.items()}
    ring, found = list(lists), {}
    for at, owner in enumerate(ring):
        points = sides[owner].points()
        for other in ring[at + 1 :] + ring[:at]:
            watch(owner, other, points)
            points = sides[other].mask(points)
        found[owner] = sides[owner].names(points)
    return found


@pytest.fixture(scope="module")
def all_named():
    return named(LISTS)


def test_a_name_is_one_customers_and_no_others(all_named):
    of = {p: dict(zip(LISTS[p], names, strict=False)) for p, names in all_named.items()}
    ids = {i for each in LISTS.values() for i in each}
    by_id = {i: {of[p][i] for p in of if i in of[p]} for i in ids}
    assert all(len(names) == 1 for names in by_id.values())
    assert len(set().union(*by_id.values())) == len(ids)
    assert [len(names) for names in all_named.values()] == [320, 256, 256]


def test_what_pads_a_list_is_nobodys(all_named):
    padding = [names[len(LISTS[p]) :] for p, names in all_named.items()]
    assert len({n for each in padding for n in each}) == sum(map(len, padding))


def test_names_are_those_of_an_independent_implementation(known):
    """Three keys by plain integers; the blinding of the party that asks comes off at the end."""
    owner, partner, third = (
        int.from_bytes(bytes.fromhex(known[k]), "little") for k in ("k_owner", "k_partner", "k_third")
    )
    side = holder([v["id"] for v in known["vectors"]], "bank", roster=bytes.fromhex(known["roster"]))
    side._key = owner
    points = union.mask(union.mask(side.points(), partner), third)
    names = side.names(points)[: len(known["vectors"])]
    assert [n.hex() for n in names] == [v["name"] for v in known["vectors"]]
    assert names[0] == name_of(ROSTER, b"\1C00001", bytes.fromhex(known["vectors"][0]["joint"]))


def test_no_party_sees_a_point_or_a_name_that_it_could_compare():
    """All that another party masks is blinded by its owner: points of two lists never meet, matching or not."""
    seen = {}
    names = named(LISTS, watch=lambda owner, other, points: seen.setdefault(other, []).append((owner, points)))
    for party, letters in seen.items():
        assert len(letters) == 2
        points = [p for _, each in letters for p in split(each, POINT)]
        assert len(set(points)) == len(points)
        mine = {*split(holder(LISTS[party], party).points(), POINT), *names[party]}
        assert not mine & {*points, *(p[:NAME] for p in points)}


def test_names_last_as_long_as_the_roster_and_points_one_run(all_named):
    assert named(LISTS, run=1) == all_named
    assert holder(LISTS["tax"], "tax").points() != holder(LISTS["tax"], "tax", run=1).points()
    assert name_of(bytes(32), b"\1A", bytes(32)) != name_of(ROSTER, b"\1A", bytes(32))


def test_another_customer_keeps_the_names_of_the_others(all_named):
    """Not even what pads the list moves: two runs show one name gone and one come, not how many are real."""
    more = named(LISTS | {"tax": [*LISTS["tax"], "C999"]})
    assert set(more["tax"][:70]) == set(all_named["tax"][:70])
    assert len(set(more["tax"]) ^ set(all_named["tax"])) == 2


def test_points_look_alike_whoever_they_are_of():
    points = split(holder(LISTS["tax"], "tax").points(), POINT)
    side = holder(LISTS["tax"], "tax")
    places = [at for at, row in enumerate(side._order.tolist()) if row < 70]
    assert places != sorted(range(70))
    assert max(places) > 128, "customers stand among the padding, not before it"
    assert len(set(points)) == 256


def test_hostile_points_are_refused(code_of):
    side, points = holder(LISTS["tax"], "tax"), holder(LISTS["shop"], "shop").points()
    for call in (side.mask, side.names):
        assert code_of(lambda call=call: call(points[:-1])) == "wrong_length"
        assert code_of(lambda call=call: call(points[:-POINT] + points[:POINT])) == "duplicate_points"
        assert code_of(lambda call=call: call(points[:-POINT] + bytes(POINT))) == "bad_point"
    assert code_of(lambda: side.names(points[POINT:])) == "wrong_length"


NAMES = st.sets(st.integers(0, 60), max_size=40)


@settings(max_examples=30)
@given(NAMES, NAMES, NAMES, st.integers(1, 2))
def test_the_union_passes_on_the_owners_slots_that_enough_others_share(a, b, c, views):
    lists = {p: [bytes([i]) * NAME for i in sorted(s)] for p, s in (("bank", a), ("shop", b), ("tax", c))}
    lists = {p: names or [p.encode().ljust(NAME)] for p, names in lists.items()}
    made = unite(lists, "bank", views)
    spine = split(made.spine, NAME)
    assert spine == sorted(set(spine))
    assert made.size == size_class(len(a | b | c))
    passed = {spine[at] for at in np.flatnonzero(made.passed)}
    assert passed == {n for n in lists["bank"] if (n in lists["shop"]) + (n in lists["tax"]) >= views}
    for p in ("shop", "tax"):
        assert made.shares[p] == round(SHARES * len({*lists[p]} & {*lists["bank"]}) / len(lists[p]))
        assert [spine[s] for s in slots_of(lists[p], made.spine, made.size)] == lists[p]


def test_what_pads_the_union_follows_from_who_sent_what():
    """No party can tell it from names: it would have to guess whose every name of the union is."""
    lists = {p: [bytes([i]) * NAME for i in ids] for p, ids in (("bank", (1, 2)), ("tax", (2, 3)))}
    moved = {"bank": lists["bank"], "tax": [*lists["tax"], lists["bank"][0]]}
    once, twice, other = (set(split(unite(each, "bank", 1).spine, NAME)) for each in (lists, dict(lists), moved))
    assert once == twice
    assert len(once & other) == 3


def test_a_union_that_is_not_in_order_or_lacks_an_own_name_is_refused(code_of, all_named):
    made = unite(all_named, "bank", 2)
    own, spine, size = all_named["tax"], made.spine, made.size
    for forged, expected in (
        (spine[NAME:], "wrong_length"),
        (spine[NAME : 2 * NAME] + spine[:NAME] + spine[2 * NAME :], "wrong_spine"),
        (spine[:NAME] + spine[:-NAME], "wrong_spine"),
        (spine.replace(own[3], own[3][:-1] + bytes([own[3][-1] ^ 1])), "wrong_spine"),
    ):
        assert code_of(lambda forged=forged: slots_of(own, forged, size)) == expected
    assert code_of(lambda: slots_of(own, spine + bytes(NAME), size + 1)) == "wrong_length"


def test_no_repr_shows_a_key_or_an_id():
    assert repr(holder(["C1"], "tax")) == "Holder()"
    assert "C1" not in repr(unite({"bank": [b"C" * NAME], "tax": [b"C" * NAME]}, "bank", 1))
