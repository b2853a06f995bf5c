"""The bank's last step, on its own machine: fuse the opened sums with its own columns, calibrate, judge on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedprofile.alignment.hashing import TRAIN_BELOW, VALID_BELOW, split_bucket
from fedprofile.errors import UsageError
from fedprofile.label_owner.home import read_fold, read_labels, read_membership
from fedprofile.label_owner.party import SCORE_SUM
from fedprofile.models.bank import BankData, BankModels, fit_bank
from fedprofile.models.fusion import FusedModel, fit_fusion
from fedprofile.node.home import Arrays, NodeHome
from fedprofile.node.run import NodeRun
from fedprofile.types import Roster, RunPlan, Table, Task

Probabilities = dict[str, npt.NDArray[np.float64]]
Mask = npt.NDArray[np.bool_]
PARTNERS = "partners"
"""The only column of ``known`` after a union: enough partners know the customer."""


@dataclass(frozen=True)
class OwnerData:
    """The label owner's customers in spine order: n rows, split by hash; ``roles`` are the columns of ``known``.

    ``slots`` (n,) are theirs in the spine: read once, so that a consent that ends meanwhile cannot shift them.
    """

    table: Table = field(repr=False)
    slots: npt.NDArray[np.int64] = field(repr=False)
    labels: Mapping[str, npt.NDArray[np.int64]] = field(repr=False)
    train: Mask = field(repr=False)
    valid: Mask = field(repr=False)
    test: Mask = field(repr=False)
    roles: tuple[str, ...]
    known: npt.NDArray[np.float32] = field(repr=False)

    @property
    def bank(self) -> BankData:
        return BankData(self.table, self.labels, self.train, self.valid)


@dataclass(frozen=True)
class Fusion:
    """What the bank ends with; probabilities are of all n customers, by task (n, K)."""

    data: OwnerData = field(repr=False)
    bank: BankModels = field(repr=False)
    fused: FusedModel = field(repr=False)
    sums: npt.NDArray[np.float32] = field(repr=False)
    federated: Probabilities = field(repr=False)
    bank_alone: Probabilities = field(repr=False)


def owner_data(home: NodeHome, plan: RunPlan, roster: Roster) -> OwnerData:
    """Read the label owner's home. ``known`` (n, R) is 1 where some node of a role knows the customer and enough do.

    Of a union the label owner knows only the last: R is 1.
    """
    run = NodeRun(home, plan, roster)
    table, spine = run.table, run.spine
    labels = {name: values[spine.rows] for name, values in read_labels(home, plan.tasks).items()}
    bucket = split_bucket(table.ids, read_fold(home))
    valid = (bucket >= TRAIN_BELOW) & (bucket < VALID_BELOW)
    split = (bucket < TRAIN_BELOW, valid, bucket >= VALID_BELOW)
    if plan.align == "union":
        known = _passed(home, spine.slots)[:, None].astype(np.float32)
        return OwnerData(table, spine.slots, labels, *split, (PARTNERS,), known)
    membership = read_membership(home).known
    views = np.sum(list(membership.values()), axis=0)
    enough = (views >= plan.min_views)[spine.slots]
    roles = tuple(dict.fromkeys(p.role for p in roster.parties if p.id != roster.label_owner))
    known = np.zeros((len(table), len(roles)), dtype=np.float32)
    for column, role in enumerate(roles):
        members = [membership[p.id] for p in roster.members(role) if p.id in membership]  # the owner's own role too
        member = np.any(members, axis=0)[spine.slots]
        known[:, column] = member & enough
    return OwnerData(table, spine.slots, labels, *split, roles, known)


def read_sums(home: NodeHome, spine_slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The opened sums (n, C) in the order of the owner's rows. Raises UsageError before any were opened."""
    return np.asarray(_kept(home)["sums"][spine_slots])


def _passed(home: NodeHome, spine_slots: npt.NDArray[np.int64]) -> Mask:
    return _kept(home)["passed"][spine_slots].astype(np.bool_)


def _kept(home: NodeHome) -> Arrays:
    kept = home.read_arrays(SCORE_SUM)
    if kept is None:
        raise UsageError("no score sum was opened in this home", "Finish the training first.")
    return kept


FitBank = Callable[[BankData, tuple[Task, ...], int], BankModels]


def fuse(
    home: NodeHome,
    plan: RunPlan,
    roster: Roster,
    view_dropout: float,
    parts: Sequence[str],
    fit: FitBank = fit_bank,
) -> Fusion:
    """Fit bank alone and the fusion on true labels of training customers; validation chooses, test is not looked at.

    ``fit`` may find the bank's own models where an earlier run kept them.
    """
    data = owner_data(home, plan, roster)
    sums = read_sums(home, data.slots)
    bank = fit(data.bank, plan.tasks, plan.seed)
    fused = fit_fusion(data.bank, bank, sums, data.known, plan.tasks, plan.seed, view_dropout, parts)
    candidates = bank.candidates(data.table)
    alone = {t.name: candidates[bank.choice[t.name]][t.name] for t in plan.tasks}
    return Fusion(data, bank, fused, sums, fused.predict(data.table, sums, data.known), alone)
