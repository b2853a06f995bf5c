"""The hybrid set-up: both agreements count, no ciphertext can be changed or moved, and nobody is talked out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.errors import PolicyRefusal, ProtocolError, RemoteProtocolError
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.keys import PairKeys, encapsulate
from fedprofile.secagg.messages import KeyAd, KeyOpen, OpenBundle
from fedprofile.secagg.setup_messages import KEM_CT, KEM_PK


def collect(fed):
    """A set-up up to the OpenBundles: KeyAds, KeyOpens."""
    request = fed.server.setup_request()
    ads = {p: s.handle(request) for p, s in fed.nodes.items()}
    bundle = fed.server.key_bundle(ads)
    return ads, {p: s.handle(bundle) for p, s in fed.nodes.items()}


@pytest.mark.parametrize("profile", ["strict", "resilient"])
def test_hybrid_sums_are_exact(federate, layout, expected, profile):
    fed = federate(5, profile=profile, hybrid=True).set_up()
    values = fed.integers(layout)
    if profile == "strict":
        data = fed.server.round(fed.id(), fed.names, layout, b"m")
        opened = fed.server.open(fed.id(), fed.uploads(data, values))
    else:
        opened = fed.open(layout, values, {"tax1": 0, "tax2": 2})
        values.pop("tax1")
    for name, total in expected(layout, values).items():
        np.testing.assert_array_equal(opened.values[name], total)


def test_sizes_and_who_sees_what(federate):
    fed = federate(4, hybrid=True)
    ads, opens = collect(fed)
    fed.server.open_bundle(opens)
    order = fed.server.cohort
    for at, party in enumerate(order):
        ad, opened = KeyAd.decode(ads[party], fed.roster), KeyOpen.decode(opens[party], fed.roster)
        assert len(ad.kem_pk) == KEM_PK
        assert [p for p, _ in opened.ciphertexts] == list(order[at + 1 :])
        received = OpenBundle.decode(fed.server.open_bundle_for(party), fed.roster)
        assert [p for p, _ in received.ciphertexts] == list(order[:at])
        assert {len(c) for _, c in received.ciphertexts} <= {KEM_CT}


def test_both_agreements_count():
    """Whoever breaks only one of X25519 and ML-KEM has another key."""
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    peers = {"b": b.public_key().public_bytes_raw()}
    keys = [
        PairKeys.agree("a", k, peers, b"t" * 32, 0, kem=kem).derive("b", b"x")
        for k, kem in (
            (a, {"b": b"s" * 32}),
            (a, {"b": b"u" * 32}),
            (X25519PrivateKey.generate(), {"b": b"s" * 32}),
            (a, None),
        )
    ]
    assert len(set(keys)) == 4


def test_a_ciphertext_changed_or_moved_is_refused_by_its_receiver(federate):
    fed = federate(4, hybrid=True)
    _, opens = collect(fed)
    fed.server.open_bundle(opens)
    last = fed.server.cohort[-1]
    good = OpenBundle.decode(fed.server.open_bundle_for(last), fed.roster)
    other = OpenBundle.decode(fed.server.open_bundle_for(fed.server.cohort[-2]), fed.roster)
    senders, texts = zip(*good.ciphertexts, strict=True)
    flipped = bytes([texts[0][0] ^ 1]) + texts[0][1:]
    for ciphertexts in (
        tuple(zip(senders, (flipped, *texts[1:]), strict=True)),
        tuple(zip(senders, (texts[1], texts[0], *texts[2:]), strict=True)),
        (*other.ciphertexts, good.ciphertexts[-1]),
        good.ciphertexts[:-1],
        (),
    ):
        with pytest.raises(RemoteProtocolError, match="bad_ciphertext"):
            fed.nodes[last]._live().accept_opens(replace(good, ciphertexts=ciphertexts))
    assert fed.nodes[last].handle(good.encode()) is None


def test_the_coordinator_checks_ciphertexts_too(federate):
    fed = federate(4, hybrid=True)
    _, opens = collect(fed)
    first = fed.server.cohort[0]
    message = KeyOpen.decode(opens[first], fed.roster)
    swapped = tuple(zip([p for p, _ in message.ciphertexts], [c for _, c in message.ciphertexts[::-1]], strict=True))
    cases = {
        "swapped": replace(message, ciphertexts=swapped),
        "left out": replace(message, ciphertexts=message.ciphertexts[:-1]),
        "none": replace(message, ciphertexts=()),
        "fewer hashes": replace(message, kem_hashes=message.kem_hashes[:-1]).signed(fed.ids[first]),
        "not hybrid": replace(message, kem_hashes=None, ciphertexts=()).signed(fed.ids[first]),
    }
    for name, bad in cases.items():
        with pytest.raises(RemoteProtocolError) as refused:
            fed.server.open_bundle(opens | {first: bad.encode()})
        assert refused.value.code == "bad_ciphertext", name
    assert fed.server.open_bundle(opens)


def test_no_downgrade(federate):
    """The coordinator asks for less, or hands on a KeyAd without its ML-KEM key."""
    fed, plain = federate(3, hybrid=True), federate(3)
    with pytest.raises(PolicyRefusal, match="kem_mismatch"):
        fed.nodes["tax1"].handle(plain.server.setup_request())
    with pytest.raises(PolicyRefusal, match="kem_mismatch"):
        plain.nodes["tax1"].handle(fed.server.setup_request())
    ads = {p: s.handle(r) for r in [fed.server.setup_request()] for p, s in fed.nodes.items()}
    bare = replace(KeyAd.decode(ads["tax1"], fed.roster), kem_pk=b"").signed(fed.ids["tax1"])
    with pytest.raises(RemoteProtocolError, match="kem_mismatch"):
        fed.server.key_bundle(ads | {"tax1": bare.encode()})


def test_a_key_that_is_none_is_refused():
    for bad in (bytes(KEM_PK - 1), b"\xff" * KEM_PK):
        with pytest.raises(RemoteProtocolError, match="bad_key"):
            encapsulate(bad, "a")


def test_a_hybrid_session_is_not_derived_again(federate):
    fed = federate(3, hybrid=True).set_up()
    with pytest.raises(RemoteProtocolError, match="need_setup"):
        ClientSession.restore(fed.nodes["tax1"].transcript(), *fed.arguments("tax1"), hybrid=True)


def test_every_sampled_byte_flip_of_a_hybrid_set_up_is_refused(federate):
    fed = federate(3, hybrid=True)
    request = fed.server.setup_request()
    ads = {p: s.handle(request) for p, s in fed.nodes.items()}

    def attack(consume, data, step):
        for at in range(0, len(data), step):
            bad = bytearray(data)
            bad[at] ^= 1 << (at % 8)
            with pytest.raises(ProtocolError):
                consume(bytes(bad))

    attack(lambda bad: fed.server.key_bundle(ads | {"tax1": bad}), ads["tax1"], 7)
    bundle = fed.server.key_bundle(ads)
    opens = {p: s.handle(bundle) for p, s in fed.nodes.items()}
    attack(lambda bad: fed.server.open_bundle(opens | {"tax1": bad}), opens["tax1"], 7)


def test_without_the_option_no_byte_is_added(federate):
    fed = federate(3)
    ads, opens = collect(fed)
    request = fed.server._request
    assert len(replace(request, hybrid=True).encode()) == len(request.encode()) + 5
    assert fed.server.open_bundle(opens) == fed.server.open_bundle_for("tax1")
    assert KeyAd.decode(ads["tax1"], fed.roster).kem_pk == b""
    assert KeyOpen.decode(opens["tax1"], fed.roster).kem_hashes is None
