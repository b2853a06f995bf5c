"""The envelope of every message between coordinator and node, and the list of what may leave a node.

Bytes: magic "fpm1", type (length-prefixed ASCII), body (canonical JSON, at most 4 KiB), parts (length-prefixed
bytes). Parts carry fps1 messages, sealed letters of an alignment, names of a union or sealed label releases; the body
carries fixed codes, hashes and the sizes of lists and spine, never free text. Whatever is not listed in ``UPWARD``
cannot be encoded as a reply, and the wire test checks captured bytes against the same list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fedprofile.errors import LocalProtocolError, RemoteProtocolError
from fedprofile.secagg.wire import MAX_MEMBERS
from fedprofile.types import canonical

MAGIC = b"fpm1"
MAX_BODY = 4096
MAX_PARTS = MAX_MEMBERS
"""One a party, where a message is for each."""

DOWNWARD = (
    "identify",
    "plan",
    "setup",
    "key-bundle",
    "open-bundle",
    "align",
    "align-spine",
    "align-match",
    "align-views",
    "align-store",
    "unite",
    "unite-blind",
    "unite-mask",
    "unite-name",
    "unite-store",
    "release-request",
    "release",
    "bins",
    "round",
    "survivors",
    "open",
    "score-sum",
    "finish",
)
UPWARD = {
    "identity": 0,
    "approval": 1,
    "pending": 0,
    "key-ad": 1,
    "key-open": 1,
    "ready": 0,
    "points": 1,
    "spine": MAX_PARTS,
    "claims": 1,
    "views": MAX_PARTS,
    "aligned": 0,
    "listed": 1,
    "masked": 1,
    "names": 1,
    "labels": MAX_PARTS,
    "labels-stored": 0,
    "bins-stored": 0,
    "uploads": 2,
    "agreements": 2,
    "reveals": 2,
    "opened": 0,
    "finished": 1,
    "error": 1,
}
"""Reply type -> how many parts it may carry."""

MEANING = {
    "identity": "the party's name",
    "approval": "a signature of the plan's hash",
    "pending": "that people have not decided on the plan yet",
    "key-ad": "public keys of this run, signed",
    "key-open": "commitments to those keys, signed",
    "ready": "that all keys fit",
    "points": "blinded ids, padded, sealed for the label owner",
    "spine": "the shared order of customers, sealed for each partner (label owner only)",
    "claims": "blinded ids of both sides, sealed for the label owner",
    "views": "which customers enough parties know, sealed for each partner (label owner only)",
    "listed": "how many customers it lists, padding included, signed (align=union)",
    "masked": "blinded ids under this node's key as well, sealed for the next node (align=union)",
    "names": "random names of its customers, which only all nodes together could trace (align=union)",
    "aligned": "that the alignment is kept",
    "labels": "randomised labels, sealed for each partner (label owner only)",
    "labels-stored": "that the released labels are kept",
    "bins-stored": "that the shared bins are kept",
    "uploads": "masked counts, updates or scores: noise to everybody, summed with the others' they open",
    "agreements": "a signature over who takes part in a sum (resilient)",
    "reveals": "shares of masks of those who are away (resilient)",
    "opened": "that the score sum is kept (label owner only)",
    "finished": "that the run's state is put away; of a partner, which encoder it keeps: a mark that hides it, signed",
    "error": "a refusal: a fixed code, signed",
}
"""Reply type -> what it tells, in words for a partner's security officer."""

REPLY_BODY = {
    "identity": {"party"},
    "approval": {"plan"},
    "spine": {"size", "hash"},
    "listed": {"size"},
    "finished": {"encoder"},
}
"""Reply type -> keys of its body; the bodies of all others but "error", and the label owner's "finished", are empty."""

PENDING = "pending"
"""Instead of an approval: people have to look at the plan first. Its body is empty."""

REPLY_TO = {
    "identify": "identity",
    "plan": "approval",
    "setup": "key-ad",
    "key-bundle": "key-open",
    "open-bundle": "ready",
    "align": "points",
    "align-spine": "spine",
    "align-match": "claims",
    "align-views": "views",
    "align-store": "aligned",
    "unite": "listed",
    "unite-blind": "masked",
    "unite-mask": "masked",
    "unite-name": "names",
    "unite-store": "aligned",
    "release-request": "labels",
    "release": "labels-stored",
    "bins": "bins-stored",
    "round": "uploads",
    "survivors": "agreements",
    "open": "reveals",
    "score-sum": "opened",
    "finish": "finished",
}


@dataclass(frozen=True)
class Envelope:
    """One message; ``body`` is small and public, ``parts`` are opaque bytes."""

    type: str
    body: dict[str, Any] = field(default_factory=dict)
    parts: tuple[bytes, ...] = field(default=(), repr=False)

    def encode(self) -> bytes:
        """Raises LocalProtocolError for an unknown type, an oversized body or too many parts."""
        body = canonical(self.body)
        limit = UPWARD.get(self.type, MAX_PARTS)
        if self.type not in UPWARD and self.type not in DOWNWARD:
            raise LocalProtocolError("unknown_message", f"message type {self.type!r} is not in the protocol")
        if len(self.parts) > limit or (self.type in UPWARD and len(body) > MAX_BODY):
            raise LocalProtocolError("message_too_large", f"a {self.type!r} message may not carry this much")
        chunks = [MAGIC, _prefixed(self.type.encode(), 1), _prefixed(body, 4), len(self.parts).to_bytes(2, "big")]
        return b"".join(chunks + [_prefixed(p, 8) for p in self.parts])

    @staticmethod
    def decode(data: bytes) -> Envelope:
        """Raises RemoteProtocolError("bad_envelope") for anything but exactly one well-formed message."""
        reader = _Reader(data)
        if reader.take(4) != MAGIC:
            raise RemoteProtocolError("bad_envelope", "not a fedprofile message")
        type_ = reader.prefixed(1).decode("ascii", "replace")
        raw = reader.prefixed(4)
        count = int.from_bytes(reader.take(2), "big")
        if count > UPWARD.get(type_, MAX_PARTS) or (type_ not in UPWARD and type_ not in DOWNWARD):
            raise RemoteProtocolError("bad_envelope", "unknown type or too many parts")
        if type_ in UPWARD and len(raw) > MAX_BODY:
            raise RemoteProtocolError("bad_envelope", "the body is too large")
        parts = tuple(reader.prefixed(8) for _ in range(count))
        if reader.left:
            raise RemoteProtocolError("bad_envelope", "bytes after the message")
        return Envelope(type_, _parse_body(raw), parts)


def _parse_body(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
        same = isinstance(body, dict) and canonical(body) == raw
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise RemoteProtocolError("bad_envelope", "the body is no canonical JSON object")
    return dict(body)


def _prefixed(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise RemoteProtocolError("bad_envelope", "the message is cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def prefixed(self, width: int) -> bytes:
        return self.take(int.from_bytes(self.take(width), "big"))
