"""What is dealt and revealed: for one member never both the share of its seed and that of a key of its pads."""

from __future__ import annotations

import os
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.errors import RemoteProtocolError
from fedprofile.secagg import shamir
from fedprofile.secagg.graph import Circle, graph_of
from fedprofile.secagg.keys import PairKeys
from fedprofile.secagg.shares import (
    TAG,
    check,
    checks_size,
    deal,
    derive,
    held,
    own_seed,
    sealed_size,
    self_key,
    to_reveal,
    unseal,
)

T0, H = b"t" * 32, b"h" * 32
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture
def keys():
    private = {p: X25519PrivateKey.generate() for p in NAMES}
    public = {p: k.public_key().public_bytes_raw() for p, k in private.items()}
    return {
        p: PairKeys.agree(p, private[p], {q: public[q] for q in NAMES if q != p}, T0, 0, own=os.urandom(32))
        for p in NAMES
    }


@pytest.fixture
def circle():
    return Circle(T0, NAMES, graph_of(5, 0))


PADS = {p: p.encode() * 32 for p in "bcde"}


def test_holders_recover_seed_and_pads(keys, circle):
    """t = 3: "a" itself and one more holder derive their shares, three are sent theirs; any three open all."""
    checks, sent = deal(keys["a"], "a", H, circle, PADS)
    assert len(circle.derived("a")) == 2
    assert {p for p, _ in sent} == set(NAMES) - set(circle.derived("a"))
    dealt = {p: held(keys[p], "a", p, H, circle, dict(sent).get(p)) for p in NAMES}
    assert all(len(d) == sealed_size(circle, "a") - TAG for d in dealt.values())
    expected = [own_seed(keys["a"], "a", H), *(PADS[p] for p in circle.neighbours("a"))]
    for chosen in combinations(NAMES, 3):
        secrets = [
            shamir.combine({circle.point(p): dealt[p][at : at + shamir.SIZE] for p in chosen}, 3)
            for at in range(0, 5 * shamir.SIZE, shamir.SIZE)
        ]
        assert secrets == expected
    assert checks == b"".join(check(s, H) for s in expected)
    assert len(checks) == checks_size(circle, "a")


def test_everybody_is_sent_as_much(circle):
    """The derived ones follow the owner around the circle, so no holder has them all."""
    assert {sum(p in circle.sent(owner) for owner in NAMES) for p in NAMES} == {3}


def test_a_derived_share_is_of_one_owner_holder_and_round(keys, circle):
    owner, holder = "a", circle.derived("a")[1]
    mine = derive(keys[owner], holder, owner, holder, H, 3)
    assert mine == derive(keys[holder], owner, owner, holder, H, 5)[:3]
    assert (
        len(
            {
                *mine,
                *derive(keys[owner], holder, holder, owner, H, 3),
                *derive(keys[owner], holder, owner, holder, b"i" * 32, 3),
            }
        )
        == 9
    )
    with pytest.raises(RemoteProtocolError, match="bad_share"):
        held(keys[holder], owner, holder, H, circle, b"sealed all the same")
    with pytest.raises(RemoteProtocolError, match="bad_share"):
        held(keys["b"], "a", circle.sent("a")[0], H, circle, None)


def test_only_pads_with_the_dropped_are_revealed(circle):
    dealt = b"".join(bytes([i]) * shamir.SIZE for i in range(5))
    for survivors, parts in (("abcde", [0]), ("acde", [0, 1]), ("abe", [0, 2, 3])):
        revealed = to_reveal(circle, "a", dealt, frozenset(survivors))
        assert revealed == b"".join(bytes([i]) * shamir.SIZE for i in parts)


def test_a_share_is_bound_to_round_owner_and_holder(keys, circle):
    sealed = dict(deal(keys["a"], "a", H, circle, PADS)[1])
    one, two, _ = sealed
    assert unseal(keys[one], "a", one, H, sealed[one])
    flipped = bytes([sealed[one][0] ^ 1]) + sealed[one][1:]
    for owner, holder, h, data in (
        ("a", one, b"i" * 32, sealed[one]),
        ("a", one, H, sealed[two]),
        (two, one, H, sealed[one]),
        ("a", one, H, flipped),
    ):
        with pytest.raises(RemoteProtocolError, match="bad_share"):
            unseal(keys[holder], owner, holder, h, data)


def test_seeds_and_masks_differ_by_round_and_repeat_in_a_restored_session(keys, circle):
    one, other = own_seed(keys["a"], "a", H), own_seed(keys["a"], "a", b"i" * 32)
    assert one != other
    assert self_key(one, H) not in (one, self_key(one, b"i" * 32))
    assert deal(keys["a"], "a", H, circle, PADS) == deal(keys["a"], "a", H, circle, PADS)
    keys["a"].advance(1)
    assert own_seed(keys["a"], "a", H) != one
