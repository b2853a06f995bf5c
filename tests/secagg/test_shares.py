"""What is dealt and revealed: for one member never both the share of its seed and that of a key of its pads."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.errors import RemoteProtocolError
from fedprofile.secagg import shamir
from fedprofile.secagg.graph import Circle, graph_of
from fedprofile.secagg.keys import PairKeys
from fedprofile.secagg.shares import TAG, deal, own_seed, sealed_size, self_key, to_reveal, unseal

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
    dealt = {
        holder: unseal(keys[holder], "a", holder, H, sealed) for holder, sealed in deal(keys["a"], "a", H, circle, PADS)
    }
    assert all(len(d) == sealed_size(circle, "a") - TAG for d in dealt.values())
    secrets = [
        shamir.combine({circle.point(p): d[at : at + shamir.SIZE] for p, d in dealt.items()}, 3)
        for at in range(0, 5 * shamir.SIZE, shamir.SIZE)
    ]
    assert secrets == [own_seed(keys["a"], "a", H), *(PADS[p] for p in "bcde")]


def test_only_pads_with_the_dropped_are_revealed(circle):
    dealt = b"".join(bytes([i]) * shamir.SIZE for i in range(5))
    for survivors, parts in (("abcde", [0]), ("acde", [0, 1]), ("abe", [0, 2, 3])):
        revealed = to_reveal(circle, "a", dealt, frozenset(survivors))
        assert revealed == b"".join(bytes([i]) * shamir.SIZE for i in parts)


def test_a_share_is_bound_to_round_owner_and_holder(keys, circle):
    sealed = dict(deal(keys["a"], "a", H, circle, PADS))
    assert unseal(keys["b"], "a", "b", H, sealed["b"])
    flipped = bytes([sealed["b"][0] ^ 1]) + sealed["b"][1:]
    for owner, holder, h, data in (
        ("a", "b", b"i" * 32, sealed["b"]),
        ("a", "b", H, sealed["c"]),
        ("c", "b", H, sealed["b"]),
        ("a", "b", H, flipped),
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
