"""Why a coordinator's certificate, a node's clock or a proxy on the way does not pass, in words, each with its mend."""

from __future__ import annotations

import httpx

CLOCK = "the coordinator does not accept this node's signature"
_PLAIN = "the other side does not speak TLS"
_CA = "the coordinator's certificate was not made by the federation's CA"
_NAME = "the coordinator's certificate names another host"
_EXPIRED = "the coordinator's certificate has expired, or this node's clock is ahead"
_EARLY = "the coordinator's certificate is not valid yet, or this node's clock is behind"
_PROXY = "the proxy that HTTPS_PROXY names does not let this node through"
MENDS = {
    CLOCK: "Set this machine's clock (NTP): 5 s ahead or 300 s behind is too much. Otherwise have the key registered.",
    _PLAIN: "Check address and port: nodes dial the coordinator's gate.",
    _CA: "Ask for the ca.crt in force, and compare its fingerprint by telephone. A proxy must not open TLS.",
    _NAME: "Dial a name that the certificate holds, or have the coordinator renew it with this one.",
    _EXPIRED: "Have the coordinator renew it; compare the clocks.",
    _EARLY: "Compare the clocks.",
    _PROXY: "Have it allow CONNECT to the coordinator's host and port; a user and password belong into HTTPS_PROXY.",
}


def tls_fault(error: httpx.TransportError) -> str:
    """What was wrong with certificate or proxy, or "" where it was something else; libraries say it in words only."""
    text = str(error).lower()
    if isinstance(error, httpx.ProxyError):  # 5xx: it could not reach the coordinator, which may come back
        return _PROXY if text.startswith("4") else ""
    if "wrong_version_number" in text or "wrong version number" in text or "record layer failure" in text:
        return _PLAIN
    if "certificate" not in text:
        return ""
    signs = {"has expired": _EXPIRED, "not yet valid": _EARLY, "mismatch": _NAME, "not valid for": _NAME}
    return next((fault for sign, fault in signs.items() if sign in text), _CA)
