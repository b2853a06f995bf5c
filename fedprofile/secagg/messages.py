"""All messages of fps1, their exact or greatest sizes, and what a wire test needs to know about them."""

from __future__ import annotations

from fedprofile.secagg.graph import Circle
from fedprofile.secagg.open_messages import KeyOpen, OpenBundle
from fedprofile.secagg.resilient_messages import Agree, Open, ResilientUpload, Reveal, Survivors
from fedprofile.secagg.round_messages import MaskedSum, Round, Upload
from fedprofile.secagg.setup_messages import KEM_CT, KEM_PK, PROFILES, Complaint, KeyAd, KeyBundle, Profile, SetupReq
from fedprofile.secagg.shares import checks_size, sealed_size
from fedprofile.secagg.wire import HASH, ID, SIGNATURE, message_type
from fedprofile.types import Layout

__all__ = [
    "FROM_NODE",
    "MAX_SIZE",
    "PROFILES",
    "Agree",
    "Complaint",
    "KeyAd",
    "KeyBundle",
    "KeyOpen",
    "MaskedSum",
    "Open",
    "OpenBundle",
    "Profile",
    "ResilientUpload",
    "Reveal",
    "Round",
    "SetupReq",
    "Survivors",
    "Upload",
    "expected_key_ad_size",
    "expected_key_open_size",
    "expected_masked_sum_size",
    "expected_resilient_upload_size",
    "expected_upload_size",
    "message_type",
]

FROM_NODE = frozenset({"KeyAd", "KeyOpen", "Upload", "ResilientUpload", "Agree", "Reveal", "Complaint"})

MAX_SIZE: dict[str, int] = {
    "SetupReq": SetupReq.MAX,
    "KeyAd": KeyAd.MAX,
    "KeyBundle": KeyBundle.MAX,
    "KeyOpen": KeyOpen.MAX,
    "OpenBundle": OpenBundle.MAX,
    "Round": Round.MAX,
    "Upload": 1 << 31,
    "MaskedSum": 1 << 31,
    "Complaint": Complaint.MAX,
    "ResilientUpload": 1 << 31,
    "Survivors": Survivors.MAX,
    "Agree": Agree.MAX,
    "Open": Open.MAX,
    "Reveal": Reveal.MAX,
}

_HEAD = len(b"fps1") + 2
_ROUND_ID = sum(4 + n for n in (HASH, 1, ID, ID, 4, 4))


def expected_key_ad_size(hybrid: bool = False) -> int:
    """Bytes of every KeyAd."""
    size = _HEAD + sum(4 + n for n in (HASH, ID, 32, 32, 32, 32, SIGNATURE))
    return size + 4 + KEM_PK if hybrid else size


def expected_key_open_size(later: int | None = None) -> int:
    """Bytes of a KeyOpen; ``later``: members after its sender in wire order, None where the set-up is not hybrid."""
    size = _HEAD + sum(4 + n for n in (HASH, ID, 32, HASH, SIGNATURE))
    if later is None:
        return size
    ciphertexts = 4 + 4 + later * (4 + ID + 4 + KEM_CT) if later else 0
    return size + 4 + later * HASH + ciphertexts


def expected_upload_size(layout: Layout) -> int:
    """Bytes of every Upload of a round with this layout."""
    return _HEAD + _ROUND_ID + sum(4 + n for n in (ID, 32, 32, 32, 32, 8, 32, SIGNATURE, layout.nbytes))


def expected_resilient_upload_size(layout: Layout, circle: Circle, party: str) -> int:
    """Bytes of every ResilientUpload of a round with this layout and graph."""
    consent = SIGNATURE if circle.graph.complete else 0
    shares = len(circle.sent(party)) * (4 + ID + 4 + sealed_size(circle, party))
    return (
        _HEAD
        + (4 + consent)
        + (4 + checks_size(circle, party))
        + 4
        + 4
        + shares
        + (4 + SIGNATURE)
        + 4
        + expected_upload_size(layout)
    )


def expected_masked_sum_size(layout: Layout) -> int:
    """Bytes of the MaskedSum of a round with this layout."""
    return _HEAD + _ROUND_ID + sum(4 + n for n in (32, 32, layout.nbytes))
