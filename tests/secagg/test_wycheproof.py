"""Edge cases of X25519, Ed25519, HKDF and AES in the manner of Wycheproof, through this room's own wrappers.

The points and scalars come from RFC 7748, RFC 8032, RFC 5869, NIST SP 800-38A and the published lists of small-order
points; what they must lead to is this protocol's own answer.
"""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.errors import LocalProtocolError, RemoteProtocolError
from fedprofile.secagg.identity import Identity, check_roster, is_weak, verify
from fedprofile.secagg.keys import Ephemeral, PairKeys, expand
from fedprofile.secagg.keystream import BACKENDS, SLACK, ZEROS, ctr_stream
from fedprofile.types import Party, Roster

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
T0 = b"t" * 32


def _le(value: int) -> bytes:
    return value.to_bytes(32, "little")


# -- X25519 ----------------------------------------------------------------------------------------
ORDER_8 = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)
LOW_ORDER = {
    "order 4: u = 0": bytes(32),
    "order 1 on the twist: u = 1": _le(1),
    "order 8, first": bytes.fromhex(ORDER_8[0]),
    "order 8, second": bytes.fromhex(ORDER_8[1]),
    "order 4 on the twist: u = p - 1": _le(P - 1),
    "u = p, non-canonical 0": _le(P),
    "u = p + 1, non-canonical 1": _le(P + 1),
    "top bit set on 0": _le(1 << 255),
    "top bit set on 1": _le((1 << 255) + 1),
    "top bit set, order 8, first": _le(int.from_bytes(bytes.fromhex(ORDER_8[0]), "little") + (1 << 255)),
    "top bit set, order 8, second": _le(int.from_bytes(bytes.fromhex(ORDER_8[1]), "little") + (1 << 255)),
    "top bit set on p - 1": _le(P - 1 + (1 << 255)),
    "top bit set on p": _le(P + (1 << 255)),
    "top bit set on p + 1": _le(P + 1 + (1 << 255)),
}


def _agreed(private: bytes, public: bytes) -> bytes:
    """PK_ij as the session holds it, of one peer."""
    return bytes(PairKeys.agree("a", X25519PrivateKey.from_private_bytes(private), {"b": public}, T0, 0)._keys["b"])


def _extract(shared: str) -> bytes:
    return hmac.digest(T0, bytes.fromhex(shared), "sha256")


@pytest.mark.parametrize("case", LOW_ORDER)
def test_an_all_zero_agreement_is_refused_for_every_encoding(case):
    for private in (hashlib.sha256(b"1").digest(), bytes(32), b"\xff" * 32):
        with pytest.raises(RemoteProtocolError) as refused:
            _agreed(private, LOW_ORDER[case])
        assert refused.value.code == "bad_key"


RFC_7748 = [  # section 5.2; the second u-coordinate has its unused top bit set
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
    (  # one step of the iteration from 9
        "0900000000000000000000000000000000000000000000000000000000000000",
        "0900000000000000000000000000000000000000000000000000000000000000",
        "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
    ),
]


@pytest.mark.parametrize(("private", "public", "shared"), RFC_7748)
def test_rfc_7748_known_answers_reach_the_pair_key(private, public, shared):
    assert _agreed(bytes.fromhex(private), bytes.fromhex(public)) == _extract(shared)


def _ladder(scalar: bytes, u: int) -> int:
    """RFC 7748, section 5, in plain integers: the other implementation."""
    k = (int.from_bytes(scalar, "little") & ~7 & ((1 << 254) - 1)) | (1 << 254)
    x2, z2, x3, z3 = 1, 0, u % P, 1
    for bit in reversed(range(255)):
        one = (k >> bit) & 1
        if one:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        x3, z3 = (d * a + c * b) ** 2 % P, u * (d * a - c * b) ** 2 % P
        e = a * a - b * b
        x2, z2 = a * a * b * b % P, e * (a * a + 121665 * e) % P
        if one:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return x2 * pow(z2, P - 2, P) % P


def _on_twist(u: int) -> bool:
    return pow(u**3 + 486662 * u**2 + u, (P - 1) // 2, P) == P - 1


TWIST = [u for u in range(2, 60) if _on_twist(u)][:8]
CURVE = [u for u in range(2, 60) if not _on_twist(u)][:8]
NON_CANONICAL = [P + k for k in range(2, 19)]


@pytest.mark.parametrize("u", TWIST + CURVE + NON_CANONICAL)
def test_twist_points_and_non_canonical_coordinates_agree_as_rfc_7748_says(u):
    """Clamped scalars are multiples of 8 and both orders are safe: nothing to refuse, one value to agree on."""
    private = hashlib.sha256(str(u).encode()).digest()
    assert _agreed(private, _le(u)) == _agreed(private, _le(u % P)) == _extract(_le(_ladder(private, u)).hex())


@pytest.mark.parametrize("public", [b"", bytes(31), b"\5" * 33, b"\5" * 64])
def test_keys_of_another_length_are_refused(public):
    with pytest.raises(RemoteProtocolError) as refused:
        _agreed(b"k" * 32, public)
    assert refused.value.code == "bad_key"


@pytest.mark.parametrize("given", [0, 31, 33, 64])
def test_a_source_that_returns_another_length_is_refused(given):
    with pytest.raises(LocalProtocolError, match="bad_random"):
        Ephemeral.draw(lambda _n: b"x" * given)


# -- Ed25519 ---------------------------------------------------------------------------------------
SMALL_ORDER = {
    "order 1": _le(1),
    "order 2": _le(P - 1),
    "order 4": bytes(32),
    "order 4, negative": _le(1 << 255),
    "order 8": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "order 8, negative": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    "order 8, other": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "order 8, other, negative": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    "order 1, sign bit": _le(1 + (1 << 255)),
    "order 2, sign bit": _le(P - 1 + (1 << 255)),
    "order 4, y = p": _le(P),
    "order 4, y = p, sign bit": _le(P + (1 << 255)),
    "order 1, y = p + 1": _le(P + 1),
    "order 1, y = p + 1, sign bit": _le(P + 1 + (1 << 255)),
}
RFC_8032 = {
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7": "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
}


def _refused(pk: bytes, sig: bytes, data: bytes = b"x") -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        verify(pk, "KeyAd", data, sig)
    assert refused.value.code == "bad_signature"


@pytest.mark.parametrize("seed", RFC_8032)
def test_rfc_8032_public_keys(seed):
    assert Identity.from_seed(bytes.fromhex(seed)).sign_pk.hex() == RFC_8032[seed]


@pytest.mark.parametrize("case", SMALL_ORDER)
def test_nobody_signs_under_a_key_of_small_order(case):
    """With S = 0 and R of small order such a signature holds for one message in eight or more."""
    pk = SMALL_ORDER[case]
    for r in SMALL_ORDER.values():
        for i in range(16):
            _refused(pk, r + bytes(32), bytes([i]))
    good = [Identity.from_seed(bytes([i]) * 32).sign_pk for i in range(2)]
    assert is_weak(pk)
    assert not any(map(is_weak, good))
    parties = (Party("a", "a", "r", good[0]), Party("b", "b", "r", pk))
    with pytest.raises(LocalProtocolError, match="bad_roster"):
        check_roster(Roster(1, b"", parties, "a"))


def test_a_signature_has_one_form():
    identity = Identity.from_seed(b"s" * 32)
    sig = identity.sign("KeyAd", b"x")
    r, s = sig[:32], int.from_bytes(sig[32:], "little")
    verify(identity.sign_pk, "KeyAd", b"x", sig)
    for k in range(1, 15):
        _refused(identity.sign_pk, r + _le(s + k * L))
    for bit in range(253, 256):
        _refused(identity.sign_pk, r + _le(s | 1 << bit))
    for bad in (r + _le(L - s), r + bytes(32), bytes(32) + sig[32:], sig[32:] + r, bytes(64), b"\xff" * 64):
        _refused(identity.sign_pk, bad)
    for flawed in (_le(1), _le(P), _le(P + 1), _le(2)):
        _refused(identity.sign_pk, flawed + sig[32:])


@pytest.mark.parametrize("length", [0, 1, 31, 32, 63, 65, 96, 128])
def test_a_signature_has_64_bytes(length):
    identity = Identity.from_seed(b"s" * 32)
    _refused(identity.sign_pk, (identity.sign("KeyAd", b"x") * 2)[:length])


@pytest.mark.parametrize("pk", [b"", bytes(31), b"\1" * 33, _le(2), b"\xff" * 32])
def test_what_is_no_public_key_verifies_nothing(pk):
    _refused(pk, Identity.from_seed(b"s" * 32).sign("KeyAd", b"x"))


# -- HKDF and AES ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("prk", "info", "okm"),
    [  # RFC 5869, test cases 2 and 3: the first 32 of their 82 and 42 bytes
        (
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            bytes(range(0xB0, 0x100)).hex(),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c",
        ),
        (
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d",
        ),
    ],
)
def test_rfc_5869_expand(prk, info, okm):
    assert expand(bytes.fromhex(prk), bytes.fromhex(info)).hex() == okm


def _stream(stream, n: int) -> str:
    target = bytearray(n + SLACK)
    stream.update_into(ZEROS[:n], target)
    return bytes(target[:n]).hex()


@pytest.mark.parametrize("backend", BACKENDS)
def test_gcm_known_answer_with_a_long_plaintext(backend):
    """McGrew and Viega, test case 15 (AES-256, 96-bit IV): ciphertext XOR plaintext is the keystream."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
    )
    cipher = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
    )
    stream = _stream(BACKENDS[backend](key, bytes.fromhex("cafebabefacedbaddecaf888")), 64)
    assert stream == bytes(a ^ b for a, b in zip(plain, cipher, strict=True)).hex()


def test_ctr_decryption_vector_of_sp_800_38a():
    """F.5.6: the same key stream turns the ciphertext back into the plaintext."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    cipher = bytes.fromhex("601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5")
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    stream = _stream(ctr_stream(key, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")), 32)
    assert stream == bytes(a ^ b for a, b in zip(plain, cipher, strict=True)).hex()
