"""Whether a model that was made again is the one in a bundle: facts, tensors and metrics side by side. Pure.

Equal simulated runs are equal byte for byte on one machine; another processor, or another release of a library, may
change last digits. So a metric counts as the same within ``TOLERANCE``, and the answer says when bits differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedprofile.registry.bundle import Bundle
from fedprofile.registry.serving import encoder_digests

TOLERANCE = 1e-6
FACTS = ("data", "plan", "fold", "tasks", "thresholds", "encoders")
_NO_ENCODERS = "encoders of the partners were not compared: not all of them acknowledged this run"


@dataclass(frozen=True)
class Finding:
    """``what`` of both; ``largest``: absolute difference, where it is numbers that differ."""

    what: str
    equal: bool
    largest: float | None = None

    @property
    def same(self) -> bool:
        return self.equal or (self.largest is not None and self.largest <= TOLERANCE)


@dataclass(frozen=True)
class Reproduction:
    """``manifests`` of the bundle and of the one made again. Bits of tensors may differ where no metric does."""

    manifests: tuple[str, str]
    facts: tuple[Finding, ...]
    tensors: tuple[Finding, ...]
    metrics: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return all(f.equal for f in (*self.facts, *self.tensors, *self.metrics))

    @property
    def reproduced(self) -> bool:
        return all(f.equal for f in self.facts) and all(f.same for f in self.metrics)

    def to_json(self) -> dict[str, Any]:
        parts = {name: [vars(f) for f in getattr(self, name)] for name in ("facts", "tensors", "metrics")}
        said = {"reproduced": self.reproduced, "identical": self.identical, "tolerance": TOLERANCE}
        return {**said, "manifests": list(self.manifests), **parts, "notes": list(self.notes)}


def compare(bundle: Bundle, again: Bundle) -> Reproduction:
    """``again``: made anew from the same configuration and data, or refitted from the same score sums."""
    facts = [Finding(name, bundle.meta.get(name) == again.meta.get(name)) for name in FACTS]
    (weights, body), (others, other_body) = bundle.model.to_state(), again.model.to_state()
    facts.append(Finding("preprocessing and layout", body == other_body))
    before = {**weights, **{f"shared.{name}": w for name, w in bundle.shared.items()}}
    now = {**others, **{f"shared.{name}": w for name, w in again.shared.items()}}
    tensors = [_tensor(name, before.get(name), now.get(name)) for name in sorted(before.keys() | now.keys())]
    old, new = dict(_numbers(bundle.meta["metrics"])), dict(_numbers(again.meta["metrics"]))
    metrics = [_number(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    return Reproduction(
        (bundle.seal.manifest, again.seal.manifest),
        tuple(facts), tuple(tensors), tuple(metrics), tuple(_notes(bundle, again)),
    )  # fmt: skip


def _notes(bundle: Bundle, again: Bundle) -> Iterator[str]:
    made, here = bundle.meta.get("code") or {}, again.meta.get("code") or {}
    if made != here:
        yield f"made by {_code(made)}, made again by {_code(here)}"
    if not encoder_digests(bundle.meta):
        yield _NO_ENCODERS


def _code(code: Mapping[str, Any]) -> str:
    return f"version {code.get('version')}, commit {code.get('commit') or 'unknown'}"


def _tensor(what: str, before: Any, now: Any) -> Finding:
    if before is None or now is None or before.shape != now.shape or before.dtype != now.dtype:
        return Finding(what, False)
    if before.tobytes() == now.tobytes():
        return Finding(what, True)
    return Finding(what, False, float(np.max(np.abs(before.astype(np.float64) - now.astype(np.float64)))))


def _number(what: str, before: float | None, now: float | None) -> Finding:
    if before is None or now is None:
        return Finding(what, before is now)
    return Finding(what, before == now, abs(before - now))


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float | None]]:
    """Every number of nested metrics under its path; None where it is undefined."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, (Mapping, list)):
        yield name, None if value is None else float(value)
    for key, inner in pairs:
        yield from _numbers(inner, f"{name}.{key}" if name else str(key))
