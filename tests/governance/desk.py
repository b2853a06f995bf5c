"""A real registry in a folder, with the people of ``office``, real bundles, and gates that say what they are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from office import NOW, ROLES, YEAR, key

from fedprofile.governance.gates import Finding, Verdict
from fedprofile.governance.people import ROOT, person
from fedprofile.governance.promotion import State
from fedprofile.models import tabular_net
from fedprofile.models.bank import BankData, fit_bank
from fedprofile.models.fusion import FusedModel, fit_fusion
from fedprofile.registry.bundle import write_bundle
from fedprofile.registry.files import read_sealed
from fedprofile.registry.home import Registry, create, load
from fedprofile.registry.promote import Actor, approve, gate, promote
from fedprofile.types import Table, Task

TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
PLAN, WORD = "ab" * 32, {"digest": "cd" * 32, "signature": "ef" * 64, "reason": None}


def small_model() -> FusedModel:
    """150 made-up customers, the cheapest fusion."""
    rng = np.random.default_rng(3)
    x, theirs = rng.normal(size=(2, 150))
    labels = {"tier": np.digitize(x + theirs, [-0.7, 0.7]).astype(np.int64), "invest": (theirs > 0).astype(np.int64)}
    table = Table(np.array([f"c{i}" for i in range(150)]), {"age": x}, frozenset())
    data = BankData(table, labels, np.arange(150) % 3 > 0, np.arange(150) % 3 == 0)
    known = rng.integers(0, 2, (150, 1)).astype(float)
    sums = known * theirs[:, None].repeat(3, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabular_net, "STEPS", 5)
        return fit_fusion(data, fit_bank(data, TASKS, 0), sums, known, TASKS, 0, parts=("linear",))


class Desk:
    """``now`` is the registry's clock, which a test turns by hand."""

    def __init__(self, folder: Path, model: FusedModel, store: str = "file", tracking: str | None = None) -> None:
        self.folder, self.model, self.now = folder, model, NOW
        made = create(folder / "registry", key(ROOT), store, "fedprofile", tracking, lambda: self.now)
        self.registry = made
        for who, roles in ROLES.items():
            entry = person(who, key(who).sign_pk, roles, NOW + YEAR)
            made.write("people", ROOT, key(ROOT), lambda s, e=entry: {"people": s.staff.added(e, key(ROOT)).to_json()})

    @property
    def state(self) -> State:
        return self.registry.state()

    def reopened(self) -> Registry:
        return replace(load(self.registry.path), clock=lambda: self.now)

    def bundle(self, name: str, signer: str = "li", **facts: Any) -> Path:
        meta = {"roles": ["tax"], "note": name, "label_eps": 2.0, "plan": PLAN, "encoders": {"tax": WORD}} | facts
        write_bundle(self.folder / name, self.model, meta, {}, key(signer))
        return self.folder / name

    def gate(self, folder: Path, passed: bool = True, version: str = "") -> str:
        manifest = self.registry.shelf.put(folder)
        gate(self.registry, actor("wang"), manifest, version, self.folder / f"report-{manifest[:8]}", said(passed))
        return manifest

    def approved(self, name: str, **facts: Any) -> str:
        manifest = self.gate(self.bundle(name, **facts))
        for who, role in (("wang", "validator"), ("zhao", "approver")):
            approve(self.registry, actor(who), manifest, role, "approve", 14)
        return manifest

    def champion(self, name: str, **facts: Any) -> str:
        manifest = self.approved(name, **facts)
        promote(self.registry, actor("chen"), manifest)
        return manifest


def actor(who: str) -> Actor:
    return Actor(who, key(who))


def said(passed: bool) -> Any:
    """Gates that have measured one thing."""

    def gates(folder: Path, champion: Path | None, out: Path) -> Verdict:
        out.mkdir(exist_ok=True)
        manifest = read_sealed(folder).seal.manifest
        (out / "gate.json").write_text(f'{{"champion": "{champion and champion.name}"}}')
        finding = Finding("auc/tier", passed, 0.9 if passed else 0.5, 0.6, "made up")
        report = manifest[:32] * 2 if champion is None else champion.name[:32] * 2
        return Verdict(passed, (finding,), manifest, report)

    return gates
