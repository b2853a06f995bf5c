"""What a node shares so that its upload can be opened without it: the seed of its self mask, and each pad key.

Who would be sent a share anyway gets none where both ends can work it out from the key that they have in common.
A holder can give out a share of the seed if the owner survived, and a share of the key of each pad that the
surviving owner has with a dropped neighbour. Pads between two survivors, and seeds of the dropped, stay hidden.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedprofile.secagg import shamir
from fedprofile.secagg.codes import remote
from fedprofile.secagg.graph import Circle
from fedprofile.secagg.keys import PairKeys, expand
from fedprofile.secagg.keystream import SLACK, nonce, open_stream
from fedprofile.secagg.wire import Items, party_wire_id

TAG = 16
CHECK = 16


def sealed_size(circle: Circle, owner: str) -> int:
    """Bytes that ``owner`` seals for each holder that it sends a share."""
    return shamir.SIZE * (1 + len(circle.neighbours(owner))) + TAG


def checks_size(circle: Circle, owner: str) -> int:
    """Bytes of the checks of one owner."""
    return CHECK * (1 + len(circle.neighbours(owner)))


def own_seed(keys: PairKeys, me: str, h: bytes) -> bytes:
    """b_i of round H; a set-up's secret makes it, so that a restored session makes the same one and never another."""
    return keys.derive(me, b"seed" + h)


def self_key(seed: bytes, h: bytes) -> bytes:
    """kb_i = HKDF-Expand(b_i, "self" || H)."""
    return expand(seed, b"self" + h)


def check(secret: bytes, h: bytes) -> bytes:
    """What the owner gives with its upload, so that a false share of the secret is found; 16 bytes, says nothing."""
    return expand(secret, b"check" + h)[:CHECK]


def deal(keys: PairKeys, me: str, h: bytes, circle: Circle, pads: Mapping[str, bytes]) -> tuple[bytes, Items]:
    """Checks of (b_me, then k_me,j for each neighbour j in wire order), and holder -> shares of them, sealed for it.

    pads: neighbour -> pad key (32 bytes) of this round. Holders in ``circle.derived`` are sent nothing.
    """
    secrets = [own_seed(keys, me, h), *(pads[p] for p in circle.neighbours(me))]
    known = {circle.point(p): derive(keys, p, me, p, h, len(secrets)) for p in circle.derived(me)}
    points = tuple(circle.point(p) for p in circle.sent(me))
    dealt = [shamir.share(s, {x: parts[k] for x, parts in known.items()}, points) for k, s in enumerate(secrets)]
    sealed = tuple(
        (p, _seal(keys, me, p, h, b"".join(shares[circle.point(p)] for shares in dealt))) for p in circle.sent(me)
    )
    return b"".join(check(s, h) for s in secrets), sealed


def derive(keys: PairKeys, peer: str, owner: str, holder: str, h: bytes, count: int) -> list[bytes]:
    """Shares of ``owner``'s secrets that it and the holder work out alike; one of them asks with its key with ``peer``.

    32 bytes of a keystream each, below the prime: 2^-247 from uniform.
    """
    ends = party_wire_id(owner) + party_wire_id(holder)
    out = bytearray(count * shamir.SECRET + SLACK)
    stream = open_stream(keys.derive(peer, b"derived" + h + ends), nonce(0, 0))
    stream.update_into(bytes(count * shamir.SECRET), out)
    return [b"\0" + out[at : at + shamir.SECRET] for at in range(0, count * shamir.SECRET, shamir.SECRET)]


def held(keys: PairKeys, owner: str, me: str, h: bytes, circle: Circle, sealed: bytes | None) -> bytes:
    """All that this holder has of ``owner``: derived, or what was sealed for it.

    Raises RemoteProtocolError("bad_share").
    """
    if me in circle.derived(owner):
        if sealed is not None:
            raise remote("bad_share", f"party {owner!r} seals nothing for this node")
        return b"".join(derive(keys, owner, owner, me, h, 1 + len(circle.neighbours(owner))))
    if sealed is None or len(sealed) != sealed_size(circle, owner):
        raise remote("bad_share", f"sealed by party {owner!r}")
    return unseal(keys, owner, me, h, sealed)


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
