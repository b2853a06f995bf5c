"""What a node shares so that its upload can be opened without it: the seed of its self mask, and each pad key.

A holder can give out a share of the seed if the owner survived, and a share of the key of each pad that the
surviving owner has with a dropped neighbour. Pads between two survivors, and seeds of the dropped, stay hidden.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedprofile.secagg import shamir
from fedprofile.secagg.codes import remote
from fedprofile.secagg.encoding import Rand
from fedprofile.secagg.graph import Circle
from fedprofile.secagg.keys import PairKeys, expand
from fedprofile.secagg.keystream import SLACK, ctr_stream
from fedprofile.secagg.wire import Items, party_wire_id

TAG = 16


def sealed_size(circle: Circle, owner: str) -> int:
    """Bytes that ``owner`` seals for each holder."""
    return shamir.SIZE * (1 + len(circle.neighbours(owner))) + TAG


def own_seed(keys: PairKeys, me: str, h: bytes) -> bytes:
    """b_i of round H; a set-up's secret makes it, so that a restored session makes the same one and never another."""
    return keys.derive(me, b"seed" + h)


def self_key(seed: bytes, h: bytes) -> bytes:
    """kb_i = HKDF-Expand(b_i, "self" || H)."""
    return expand(seed, b"self" + h)


def deal(keys: PairKeys, me: str, h: bytes, circle: Circle, pads: Mapping[str, bytes]) -> Items:
    """Holder -> shares of (b_me, then k_me,j for each neighbour j in wire order), sealed for that holder.

    pads: neighbour -> pad key (32 bytes) of this round.
    """
    coefficients = _source(keys.derive(me, b"coefficients" + h))
    points = tuple(circle.point(p) for p in circle.holders(me))
    secrets = [own_seed(keys, me, h), *(pads[p] for p in circle.neighbours(me))]
    dealt = [shamir.share(s, circle.graph.threshold, points, coefficients) for s in secrets]
    return tuple(
        (holder, _seal(keys, me, holder, h, b"".join(shares[circle.point(holder)] for shares in dealt)))
        for holder in circle.holders(me)
    )


def _source(key: bytes) -> Rand:
    stream = ctr_stream(key, bytes(16))

    def rand(n: int) -> bytes:
        out = bytearray(n + SLACK)
        stream.update_into(bytes(n), out)
        return bytes(out[:n])

    return rand


def _seal(keys: PairKeys, me: str, holder: str, h: bytes, data: bytes) -> bytes:
    """AES-256-GCM under a key of this owner, holder and H alone: one message, so the nonce is zero."""
    ends = party_wire_id(me) + party_wire_id(holder)
    return AESGCM(keys.derive(holder, b"share" + h + ends)).encrypt(bytes(12), data, h + ends)


def unseal(keys: PairKeys, owner: str, me: str, h: bytes, sealed: bytes) -> bytes:
    """What ``owner`` sealed for this node. Raises RemoteProtocolError("bad_share")."""
    ends = party_wire_id(owner) + party_wire_id(me)
    try:
        return AESGCM(keys.derive(owner, b"share" + h + ends)).decrypt(bytes(12), sealed, h + ends)
    except InvalidTag:
        raise remote("bad_share", f"sealed by party {owner!r}") from None


def to_reveal(circle: Circle, owner: str, dealt: bytes, survivors: frozenset[str]) -> bytes:
    """Of what ``owner``, a survivor, dealt: the share of its seed and those of its pads with the dropped."""
    parts = [dealt[at : at + shamir.SIZE] for at in range(0, len(dealt), shamir.SIZE)]
    ends = zip(circle.neighbours(owner), parts[1:], strict=True)
    return parts[0] + b"".join(part for p, part in ends if p not in survivors)
