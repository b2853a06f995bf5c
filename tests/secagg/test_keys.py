"""Key schedule: published vectors, agreement of both ends, forward erasure, refusal of weak keys."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.errors import RemoteProtocolError
from fedprofile.secagg.keys import MAX_JUMP, Ephemeral, PairKeys, expand


def test_hkdf_expand_known_answer():
    """RFC 5869, test case 1, first 32 bytes of the output."""
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    assert expand(prk, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")).hex() == okm


def _pair(t0=b"t0" * 16):
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    publics = {"a": a.public_key().public_bytes_raw(), "b": b.public_key().public_bytes_raw()}
    return PairKeys.agree("a", a, {"b": publics["b"]}, t0, 2), PairKeys.agree("b", b, {"a": publics["a"]}, t0, 2)


def test_both_ends_agree_with_opposite_signs_at_any_pace():
    a, b = _pair()
    a.advance(3)
    a.advance(7)
    b.advance(7)
    (ka, sa), (kb, sb) = a.pads(b"h" * 32, ("a", "b"))[0], b.pads(b"h" * 32, ("a", "b"))[0]
    assert ka == kb
    assert sa == -sb
    assert a.pads(b"i" * 32, ("a", "b"))[0][0] != ka


def test_passed_keys_are_gone():
    a, _ = _pair()
    held = next(iter(a._keys.values()))
    before = bytes(held)
    a.advance(3)
    assert bytes(held) == expand(before, b"ratchet")
    for t, code in ((2, "stale_round"), (4 + MAX_JUMP, "round_jump")):
        with pytest.raises(RemoteProtocolError, match=code):
            a.advance(t)
    a.erase()
    assert bytes(held) == bytes(32)
    with pytest.raises(RemoteProtocolError, match="stale_round"):
        a.advance(3)
    assert before.hex() not in repr(a)


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")])
def test_low_order_keys_are_refused(point):
    with pytest.raises(RemoteProtocolError, match=r"bad_key.*'b'"):
        PairKeys.agree("a", X25519PrivateKey.generate(), {"b": point}, bytes(32), 0)


def test_a_set_up_draws_96_bytes_and_shows_none():
    drawn = []

    def rand(n):
        drawn.append(os.urandom(n))
        return drawn[-1]

    ephemeral = Ephemeral.draw(rand)
    assert [len(d) for d in drawn] == [32, 32, 32]
    assert repr(ephemeral) == "Ephemeral()"
