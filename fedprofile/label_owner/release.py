"""The label release: randomised once for ever, only training customers, one sealed copy a node."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fedprofile.errors import PolicyRefusal
from fedprofile.privacy.randomised_response import class_prior, flip_matrix, randomise
from fedprofile.privacy.sealing import LabelRelease
from fedprofile.types import RunPlan, Spine, canonical, digest


def release_labels(
    ids: npt.NDArray[np.str_],
    labels: Mapping[str, npt.NDArray[np.int64]],
    train: npt.NDArray[np.bool_],
    spine: Spine,
    plan: RunPlan,
    secret: bytes,
) -> LabelRelease:
    """Everything that is released about this plan's training customers.

    ids (m,) normalised, labels[task] (m,) and train (m,) in the order of ``spine.slots`` (m,). The priors are
    un-mixed from the released labels, so they cost no further epsilon.
    Raises PolicyRefusal("release_too_small") below ``plan.min_release`` customers.
    """
    chosen = np.flatnonzero(train)
    _large_enough(len(chosen), plan)
    released, priors = {}, {}
    for task in plan.tasks:
        true = labels[task.name][chosen]
        released[task.name] = randomise(ids[chosen], true, task.name, task.classes, plan.label_eps, secret)
        prior = class_prior(released[task.name], task.classes, flip_matrix(task.classes, plan.label_eps))
        priors[task.name] = tuple(float(p) for p in prior)
    return LabelRelease(spine.slots[chosen], released, priors, plan.label_eps)


def restrict(release: LabelRelease, known: npt.NDArray[np.bool_], plan: RunPlan) -> LabelRelease:
    """The part of a release about customers that one partner knows (``known`` by spine slot)."""
    kept = known[release.slots]
    _large_enough(int(kept.sum()), plan)
    labels = {name: values[kept] for name, values in release.labels.items()}
    return LabelRelease(release.slots[kept], labels, release.priors, release.eps)


def fill(release: LabelRelease, names: Sequence[bytes], secret: bytes, fold: int) -> LabelRelease:
    """The release of a union: a label for every slot, so that nobody sees which are the label owner's customers.

    names (size,) by slot. A slot outside ``release`` gets, for each task, what was released for a customer drawn by
    HMAC-SHA256 of the slot's name and the task, once for ever. Tasks are drawn apart: whole rows of other customers
    would give away who has a row that nobody else has. Drawing among released labels costs no further epsilon. A
    missing label is released as missing, so who must lack one can be told from who does not.
    """
    labels = {}
    for task, values in release.labels.items():
        donor = np.array([_drawn(secret, name, task, len(release.slots)) for name in names], dtype=np.int64)
        donor[release.slots] = np.arange(len(release.slots))
        labels[task] = values[donor]
    return replace(release, slots=np.arange(len(names)), labels=labels, fold=fold)


def _drawn(secret: bytes, name: bytes, task: str, among: int) -> int:
    return int.from_bytes(hmac.digest(secret, name + task.encode(), hashlib.sha256)[:8], "big") % among


def fingerprint(ids: npt.NDArray[np.str_], release: LabelRelease, roster: bytes, fold: int) -> bytes:
    """Recognises what a union was told: whom (ids (m,) of the released), what, and under which names."""
    facts = canonical({"eps": release.eps, "fold": fold, "tasks": sorted(release.labels)})
    columns = (release.labels[task].tobytes() for task in sorted(release.labels))
    return digest("union-release/1", roster, facts, *columns, *(str(i).encode() for i in ids))


def _large_enough(customers: int, plan: RunPlan) -> None:
    if customers < plan.min_release:
        raise PolicyRefusal(
            "release_too_small",
            f"a release to one partner would hold fewer than privacy.min_release={plan.min_release} customers",
        )
