import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.alignment import curve
from fedprofile.alignment.curve import ORDER, POINT, SCALAR_BYTES, inverse, mask, masked_hashes, scalar

# SEC 2 and its multiples: x of G and of 2G.
GX = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
G2X = bytes.fromhex("7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978")
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
KEYS = st.integers(1, ORDER - 1)
MESSAGES = st.lists(st.binary(max_size=20), min_size=1, max_size=4)


def test_multiples_of_the_generator():
    assert mask(GX, 1) == GX
    assert mask(GX, 2) == G2X
    assert mask(GX + G2X, ORDER - 1) == GX + G2X, "P and -P have one x"


def test_hashes_and_masks_are_those_of_an_independent_implementation(known):
    messages = [b"\1" + v["id"].encode() for v in known["vectors"]]
    owner, partner = int(known["k_owner"], 16), int(known["k_partner"], 16)
    of = {name: bytes.fromhex("".join(v[name] for v in known["vectors"])) for name in
          ("hash", "blinded", "evaluated", "value")}  # fmt: skip
    assert masked_hashes(messages, 1) == of["hash"]
    assert masked_hashes(messages, partner) == mask(of["hash"], partner) == of["blinded"]
    assert mask(of["blinded"], owner) == of["evaluated"]
    assert mask(of["evaluated"], inverse(partner)) == masked_hashes(messages, owner) == of["value"]
    assert {v["counter"] for v in known["vectors"]} > {0}, "more than one try is covered"


@settings(max_examples=20)
@given(MESSAGES, KEYS, KEYS)
def test_masks_commute_and_come_off(messages, a, b):
    points = masked_hashes(messages, a)
    assert mask(points, b) == mask(masked_hashes(messages, b), a)
    assert mask(mask(points, b), inverse(b)) == points
    assert len(points) == POINT * len(messages)


@given(st.binary(min_size=SCALAR_BYTES, max_size=SCALAR_BYTES))
def test_every_drawn_key_is_a_scalar_that_can_be_taken_off(uniform):
    k = scalar(uniform)
    assert 1 <= k < ORDER
    assert k * inverse(k) % ORDER == 1


def test_the_ends_of_the_range_of_keys():
    assert scalar(bytes(SCALAR_BYTES)) == 1
    assert scalar((ORDER - 2).to_bytes(SCALAR_BYTES, "big")) == ORDER - 1
    assert scalar((ORDER - 1).to_bytes(SCALAR_BYTES, "big")) == 1


@pytest.mark.parametrize("x", [5, 7, P, P + 5, 2**256 - 1], ids=["on", "off", "p", "not reduced", "largest"])
def test_an_x_that_is_on_no_point_is_refused(code_of, x):
    """5 is on the curve; 7 is not, and the others are not written as they should be, P + 5 is not 5."""
    data = GX + x.to_bytes(32, "big")
    if x == 5:
        assert len(mask(data, 3)) == 64
    else:
        assert code_of(lambda: mask(data, 3)) == "off_curve"


@pytest.mark.parametrize("size", [1, 31, 33])
def test_points_have_32_bytes(code_of, size):
    assert code_of(lambda: mask(bytes(size), 3)) == "wrong_length"


def test_worker_processes_give_the_same_points(monkeypatch, code_of):
    """Spawned, not forked: nothing but the chunk and its key reaches a worker."""
    messages = [b"%d" % i for i in range(40)]
    here, k = masked_hashes(messages, 7), 2**255 - 19
    masked = mask(here, k)
    monkeypatch.setattr(curve, "POOL_FROM", 2)
    monkeypatch.setattr(curve, "CHUNK", 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert masked_hashes(messages, 7) == here
    assert mask(here, k) == masked
    assert code_of(lambda: mask(here + (7).to_bytes(32, "big"), k)) == "off_curve"


def test_no_points_is_no_error():
    assert mask(b"", 3) == masked_hashes([], 3) == b""
