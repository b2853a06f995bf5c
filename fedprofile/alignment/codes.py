"""The fixed identifiers of everything that alignment refuses. Only the code crosses the wire, never the text."""

from __future__ import annotations

from fedprofile.errors import PolicyRefusal, RemoteProtocolError

_ASK = "Ask the other side which version and plan it runs; nothing was told."

CODES: dict[str, str] = {
    "bad_letter": _ASK,
    "wrong_letter": _ASK,
    "wrong_length": _ASK,
    "bad_size": _ASK,
    "bad_alignment": _ASK,
    "wrong_run": "The letter belongs to another run or plan.",
    "wrong_party": "The letter was written by another party, or for another one.",
    "off_curve": "The other side sent what is no point of P-256.",
    "duplicate_points": "Every customer may be asked about once.",
    "letter_changed": "A partner asks and claims once a run; a retry repeats the same letter.",
    "too_many_points": "Raise align.max_points if the label owner agrees to answer for so many customers.",
    "align_mismatch": "Name the same align mode at the coordinator and at every node.",
    "no_spine": "Align first.",
    "bad_spine": "The label owner's signature says who made the spine; nobody else's counts.",
    "wrong_spine": "The coordinator and this node hold different alignments; start a new run.",
    "spine_changed": "A run has one spine; start a new run.",
}


def remote(code: str, what: str = "") -> RemoteProtocolError:
    """The other side broke the protocol."""
    return RemoteProtocolError(code, what, CODES[code])


def refusal(code: str, what: str = "") -> PolicyRefusal:
    """Well formed, but outside this node's own limits."""
    return PolicyRefusal(code, what, CODES[code])
