"""All messages of fps1, their exact or greatest sizes, and what a wire test needs to know about them."""

from __future__ import annotations

from fedprofile.secagg.round_messages import MaskedSum, Round, Upload
from fedprofile.secagg.setup_messages import (
    PROFILES,
    Complaint,
    KeyAd,
    KeyBundle,
    KeyOpen,
    OpenBundle,
    Profile,
    SetupReq,
)
from fedprofile.secagg.wire import HASH, ID, SIGNATURE, message_type
from fedprofile.types import Layout

__all__ = [
    "EXACT_SIZE",
    "FROM_NODE",
    "MAX_SIZE",
    "PROFILES",
    "Complaint",
    "KeyAd",
    "KeyBundle",
    "KeyOpen",
    "MaskedSum",
    "OpenBundle",
    "Profile",
    "Round",
    "SetupReq",
    "Upload",
    "expected_masked_sum_size",
    "expected_upload_size",
    "message_type",
]

FROM_NODE = frozenset({"KeyAd", "KeyOpen", "Upload", "Complaint"})

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
}

_HEAD = len(b"fps1") + 2
_ROUND_ID = sum(4 + n for n in (HASH, 1, ID, ID, 4, 4))

EXACT_SIZE: dict[str, int] = {
    "KeyAd": _HEAD + sum(4 + n for n in (HASH, ID, 32, 32, 32, 32, SIGNATURE)),
    "KeyOpen": _HEAD + sum(4 + n for n in (HASH, ID, 32, HASH, SIGNATURE)),
}


def expected_upload_size(layout: Layout) -> int:
    """Bytes of every Upload of a round with this layout."""
    return _HEAD + _ROUND_ID + sum(4 + n for n in (ID, 32, 32, 32, 32, 8, 32, SIGNATURE, layout.nbytes))


def expected_masked_sum_size(layout: Layout) -> int:
    """Bytes of the MaskedSum of a round with this layout."""
    return _HEAD + _ROUND_ID + sum(4 + n for n in (32, 32, layout.nbytes))
