"""Why a coordinator's certificate, or a node's clock, does not pass, in words, each with its mend."""

from __future__ import annotations

import httpx

CLOCK = "the coordinator does not accept this node's signature"
_PLAIN = "the other side does not speak TLS"
_CA = "the coordinator's certificate was not made by the federation's CA"
_NAME = "the coordinator's certificate names another host"
_EXPIRED = "the coordinator's certificate has expired, or this node's clock is ahead"
_EARLY = "the coordinator's certificate is not valid yet, or this node's clock is behind"
MENDS = {
    CLOCK: "Set this machine's clock (NTP): 5 s ahead or 300 s behind is too much. Otherwise have the key registered.",
    _PLAIN: "Check address and port: nodes dial the coordinator's gate.",
    _CA: "Ask for the ca.crt in force, and compare its fingerprint by telephone.",
    _NAME: "Dial a name that the certificate holds, or have the coordinator renew it with this one.",
    _EXPIRED: "Have the coordinator renew it; compare the clocks.",
    _EARLY: "Compare the clocks.",
}


def tls_fault(error: httpx.TransportError) -> str:
    """What was wrong with the certificate, or "" where it was something else; OpenSSL says it in words only."""
    text = str(error).lower()
    if "wrong_version_number" in text or "wrong version number" in text or "record layer failure" in text:
        return _PLAIN
    if "certificate" not in text:
        return ""
    signs = {"has expired": _EXPIRED, "not yet valid": _EARLY, "mismatch": _NAME, "not valid for": _NAME}
    return next((fault for sign, fault in signs.items() if sign in text), _CA)
