"""Whether a bundle is served with its partners: only they can, each with its own encoder of that very run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fedprofile.node.encoders import KEPT, finished_runs
from fedprofile.node.home import NodeHome


def encoder_digests(meta: Mapping[str, Any]) -> dict[str, str]:
    """By partner, where a bundle's ``meta`` holds the word of all of them; else empty."""
    return {} if why_bank_alone(meta) else {party: word["digest"] for party, word in meta["encoders"].items()}


def why_bank_alone(meta: Mapping[str, Any], finished: Collection[str] | None = None) -> str | None:
    """None: served fused. ``finished``: plans (hex) of the last runs that the bank's home finished; None: no home."""
    words = meta.get("encoders") or {}
    silent = [party for party, word in sorted(words.items()) if not (word.get("digest") and word.get("signature"))]
    if silent or not words:
        return f"its encoders are not acknowledged by {', '.join(silent) or 'any partner'}"
    if finished is not None and meta.get("plan") not in finished:
        return f"its run is not one of the last {KEPT} of this home, and partners keep no older encoders"
    return None


def kept_runs(home: NodeHome) -> list[str]:
    """Plans (hex) of the runs whose encoders the partners keep, by the label owner's ``home``; the newest last."""
    return [run["plan"] for run in finished_runs(home)]


def served(meta: Mapping[str, Any]) -> str:
    """As the bundle alone tells it."""
    why = why_bank_alone(meta)
    return f"served bank alone: {why}" if why else "served fused"
