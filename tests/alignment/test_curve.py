import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.alignment import curve
from fedprofile.alignment.curve import ORDER, POINT, SCALAR_BYTES, P, inverse, mask, masked_hashes, scalar

KEYS = st.binary(min_size=SCALAR_BYTES, max_size=SCALAR_BYTES).map(scalar)
MESSAGES = st.lists(st.binary(max_size=20), min_size=1, max_size=4)
ONE, TWO = scalar(b"\1" * 32), scalar(b"\2" * 32)

# RFC 9380, appendix J.4.2: message, u[0], Q.x, of curve25519_XMD:SHA-512_ELL2_NU_.
RFC_TAG = b"QUUX-V01-CS02-with-curve25519_XMD:SHA-512_ELL2_NU_"
RFC = (
    (b"", "608d892b641f0328523802a6603427c26e55e6f27e71a91a478148d45b5093cd",
     "51125222da5e763d97f3c10fcc92ea6860b9ccbbd2eb1285728f566721c1e65b"),
    (b"abc", "46f5b22494bfeaa7f232cc8d054be68561af50230234d7d1d63d1d9abeca8da5",
     "7d56d1e08cb0ccb92baf069c18c49bb5a0dcd927eff8dcf75ca921ef7f3e6eeb"),
    (b"abcdef0123456789", "235fe40c443766ce7e18111c33862d66c3b33267efa50d50f9e8e5d252a40aaa",
     "3fbe66b9c9883d79e8407150e7c2a1c8680bee496c62fabe4619a72b3cabe90f"),
)  # fmt: skip


def test_hashes_are_those_of_rfc_9380():
    elements = [curve.encode_to_field(message, RFC_TAG) for message, _, _ in RFC]
    assert elements == [int(u, 16) for _, u, _ in RFC]
    assert curve.map_to_curve(elements) == [int(x, 16) for _, _, x in RFC]


@given(st.integers(0, P - 1))
def test_squares_are_those_of_eulers_criterion(a):
    assert curve._is_square(a) == (pow(a, (P - 1) // 2, P) in (0, 1))


@given(st.lists(st.integers(0, P - 1), min_size=1, max_size=5))
def test_every_element_falls_on_the_curve_and_never_on_the_twist(elements):
    """A mask keeps a point on its curve: a point on the twist would tell one bit of its customer."""
    for u in curve.map_to_curve(elements):
        assert pow(u**3 + curve.A * u**2 + u, (P - 1) // 2, P) in (0, 1)


def test_hashes_and_masks_are_those_of_an_independent_implementation(known):
    messages = [b"\1" + v["id"].encode() for v in known["vectors"]]
    owner, partner = (int.from_bytes(bytes.fromhex(known[k]), "little") for k in ("k_owner", "k_partner"))
    of = {name: bytes.fromhex("".join(v[name] for v in known["vectors"])) for name in
          ("hash", "blinded", "evaluated", "value")}  # fmt: skip
    assert masked_hashes(messages, partner) == mask(of["hash"], partner) == of["blinded"]
    assert mask(of["blinded"], owner) == of["evaluated"]
    assert mask(of["evaluated"], inverse(partner)) == masked_hashes(messages, owner) == of["value"]
    assert {v["candidate"] for v in known["vectors"]} == {1, 2}, "both of Elligator's candidates are covered"


@settings(max_examples=20)
@given(MESSAGES, KEYS, KEYS)
def test_masks_commute_and_come_off(messages, a, b):
    points = masked_hashes(messages, a)
    assert mask(points, b) == mask(masked_hashes(messages, b), a)
    assert mask(mask(points, b), inverse(b)) == points
    assert len(points) == POINT * len(messages)


@given(KEYS)
def test_every_key_is_one_that_x25519_takes_as_it_is_and_so_is_its_inverse(k):
    for key in (k, inverse(k)):
        assert scalar(key.to_bytes(SCALAR_BYTES, "little")) == key
        assert 2**254 <= key < 2**255
        assert key % 8 == 0
    assert k * inverse(k) % ORDER in (1, ORDER - 1), "P and -P have one u"


@pytest.mark.parametrize("u", [0, 1, P - 1, P, P + 2, 2**255 + 9, 2**256 - 1])
def test_points_of_small_order_and_numbers_out_of_range_are_refused(code_of, u):
    """9 is the base point: P + 9 does not fit below 2^255 + 9, which X25519 would take for 9."""
    good = (9).to_bytes(32, "little")
    assert len(mask(good, ONE)) == 32
    assert code_of(lambda: mask(good + u.to_bytes(32, "little"), ONE)) == "bad_point"


@pytest.mark.parametrize("size", [1, 31, 33])
def test_points_have_32_bytes(code_of, size):
    assert code_of(lambda: mask(bytes(size), ONE)) == "wrong_length"


def test_worker_processes_give_the_same_points(monkeypatch, code_of):
    """Spawned, not forked: nothing but the chunk and its key reaches a worker."""
    messages = [b"%d" % i for i in range(40)]
    here = masked_hashes(messages, ONE)
    masked = mask(here, TWO)
    monkeypatch.setattr(curve, "POOL_FROM", 2)
    monkeypatch.setattr(curve, "CHUNK", 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert masked_hashes(messages, ONE) == here
    assert mask(here, TWO) == masked
    assert code_of(lambda: mask(here + bytes(32), TWO)) == "bad_point"


def test_no_points_is_no_error():
    assert mask(b"", ONE) == masked_hashes([], ONE) == b""
