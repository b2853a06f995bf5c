"""The label owner's side: its own models, the fusion, the bundle that the gates read, and how well an attack works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from world import TARGET, Trained, World

from fedprofile.label_owner.evaluate import OwnerData
from fedprofile.models.bank import CANDIDATES, FOLDS, BankData, BankModels, Candidates, bank_folds
from fedprofile.models.blending import class_prior, fit_blend, log_loss
from fedprofile.models.features import fit_features
from fedprofile.models.fusion import fit_fusion
from fedprofile.models.tabular_net import fit_network
from fedprofile.models.trees import TreeColumns, TreeConfig, Trees, fit_booster
from fedprofile.registry.bundle import Bundle
from fedprofile.registry.holdout import Held
from fedprofile.registry.seal import Seal
from fedprofile.types import Table

Array = npt.NDArray[Any]
TREES = TreeConfig(lr=0.15, rounds=80, patience=8)  # as the bank's own, but faster
STEPS = 30  # of the bank's network, instead of 400


@dataclass(frozen=True)
class Owned:
    """What the label owner holds at the end of a run."""

    bundle: Bundle
    held: Held = field(repr=False)

    def top(self, table: Table, sums: Array) -> Array:
        """(n,) bool: who is put into the best tier when ``sums`` are known."""
        p = self.bundle.score(table, sums.astype(np.float64), self.held.data.known.astype(np.float64))[TARGET]
        chosen: Array = p.argmax(1) == p.shape[1] - 1
        return chosen

    def success(self, table: Table, sums: Array) -> float:
        """Share of test customers outside the best tier whom the trigger (in columns or sums) lifts into it."""
        before = self.top(self.held.data.table, self.held.sums)
        rows = self.held.data.test & ~before
        return float(self.top(table, sums)[rows].mean())


def fit_bank(world: World, table: Table, labels: Mapping[str, Array]) -> BankModels:
    """As ``fedprofile.models.bank.fit_bank``, with fewer and faster steps."""
    data, tasks, seed = BankData(table, labels, world.train, world.valid), world.tasks, world.seed
    features = fit_features(table, np.flatnonzero(world.train))
    network = fit_network(features.transform(table), labels, tasks, world.train, world.valid, seed, steps=STEPS)
    columns, own = TreeColumns.fit(table, world.train), bank_folds(table)
    x, folds, trees = columns.matrix(table), {}, {}
    for task in tasks:
        y = labels[task.name]
        terms = (x, columns, y, task.classes)
        boosters = (
            fit_booster(*terms, world.train & (own != f), world.train & (own == f), TREES, seed) for f in range(FOLDS)
        )
        folds[task.name] = Trees(task.classes, columns, tuple(boosters))
        trees[task.name] = Trees(task.classes, columns, (fit_booster(*terms, world.train, world.valid, TREES, seed),))
    fitted = Candidates(features, network, trees)
    found = fitted.predict(table.take(world.valid))
    blends, choice = {}, {}
    for task in tasks:
        y, parts = labels[task.name][world.valid], [found[c][task.name] for c in CANDIDATES]
        blends[task.name] = fit_blend(parts, y, np.arange(len(y)))
        choice[task.name] = CANDIDATES[int(np.argmin([log_loss(y, p) for p in parts]))]
    priors = {t.name: tuple(class_prior(labels[t.name], data.train, t.classes).tolist()) for t in tasks}
    return BankModels(tasks, fitted, folds, priors, blends, choice)


def own(trained: Trained, bank: BankModels, sums: Array, table: Table, labels: Mapping[str, Array]) -> Owned:
    """Fuse ``sums`` on true labels (the linear part, as experiment=quick does) and wrap all as the gates see it."""
    world = trained.world
    roles = tuple(n.id for n in world.partners)
    known = np.ones((len(table), len(world.partners)), np.float32)
    data = BankData(table, labels, world.train, world.valid)
    model = fit_fusion(data, bank, sums, known, world.tasks, world.seed, 0.0, ["linear"])
    bundle = Bundle(model, trained.shared, roles, {}, Seal("", "", False))
    test = ~world.train & ~world.valid
    owned = OwnerData(table, np.arange(len(table)), labels, world.train, world.valid, test, roles, known)
    return Owned(bundle, Held(owned, sums, None))  # type: ignore[arg-type]
