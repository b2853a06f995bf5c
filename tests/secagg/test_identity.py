"""Identities show nothing; a roster version needs every member of the one before."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from fedprofile.errors import LocalProtocolError, RemoteProtocolError
from fedprofile.secagg.identity import Identity, sign_roster, verify, verify_roster
from fedprofile.types import Party, Roster

IDS = {p: Identity.from_seed(p.encode().ljust(32, b".")) for p in "abcd"}


def _party(name):
    return Party(name, name, "role", IDS[name].sign_pk)


def _roster(names="abc", version=1, previous=b"", signers=None):
    unsigned = Roster(version, previous, tuple(map(_party, names)), names[0])
    return sign_roster(unsigned, {p: IDS[p] for p in (names if signers is None else signers)})


def test_rfc_8032_test_1_under_our_domain():
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    identity = Identity.from_seed(seed)
    assert identity.sign_pk.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    sig = identity.sign("KeyAd", b"x")
    assert sig == identity._key.sign(b"fps1/KeyAd\0x")
    verify(identity.sign_pk, "KeyAd", b"x", sig)
    for pk, kind, data, bad in [
        (identity.sign_pk, "KeyOpen", b"x", sig),
        (identity.sign_pk, "KeyAd", b"y", sig),
        (IDS["a"].sign_pk, "KeyAd", b"x", sig),
        (identity.sign_pk, "KeyAd", b"x", sig[:-1]),
        (b"short", "KeyAd", b"x", sig),
    ]:
        with pytest.raises(RemoteProtocolError, match="bad_signature"):
            verify(pk, kind, data, bad)


def test_an_identity_shows_and_pickles_nothing():
    assert repr(IDS["a"]) == "Identity()"
    with pytest.raises(TypeError):
        pickle.dumps(IDS["a"])
    with pytest.raises(LocalProtocolError, match="bad_random"):
        Identity.from_seed(b"short")
    assert Identity.generate().sign_pk != Identity.generate().sign_pk
    assert IDS["a"].mac("x", b"1") == IDS["a"].mac("x", b"1") != IDS["b"].mac("x", b"1")


def test_roster_chain():
    first = _roster()
    verify_roster(first)
    second = _roster("abd", 2, first.hash, signers="abcd")
    verify_roster(second, first)
    verify_roster(_roster("abd", 2, first.hash, signers="abc"), first)


@pytest.mark.parametrize(
    ("roster", "previous", "code"),
    [
        (_roster(signers="ab"), None, "unsigned_roster"),
        (_roster("abd", 2, _roster().hash, signers="abd"), _roster(), "unsigned_roster"),
        (_roster(signers="abcd"), None, "unknown_signer"),
        (_roster("abd", 2, b"\1" * 32, signers="abc"), _roster(), "wrong_roster"),
        (_roster("abd", 3, _roster().hash, signers="abc"), _roster(), "wrong_roster"),
        (_roster("abc", 2, _roster().hash), None, "wrong_roster"),
        (replace(_roster(), signatures=_roster("abd").signatures), None, "unknown_signer"),
        (replace(_roster(), label_owner="b"), None, "bad_signature"),
        (replace(_roster(), signatures=_roster().signatures * 2), None, "duplicate"),
        (replace(_roster(), label_owner="z"), None, "bad_roster"),
        (replace(_roster(), parties=(_party("a"), _party("a"))), None, "bad_roster"),
    ],
)
def test_rosters_refused(roster, previous, code):
    with pytest.raises((RemoteProtocolError, LocalProtocolError)) as refused:
        verify_roster(roster, previous)
    assert refused.value.code == code
