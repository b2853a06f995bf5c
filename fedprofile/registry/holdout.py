"""The held-out customers of the label owner's home, and how a bundle scores them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import UsageError
from fedprofile.label_owner.evaluate import OwnerData, owner_data, read_sums
from fedprofile.node.encoders import KEPT
from fedprofile.node.home import NodeHome
from fedprofile.node.membership import pinned_roster
from fedprofile.registry.bundle import Bundle
from fedprofile.registry.serving import encoder_digests, kept_runs, why_bank_alone
from fedprofile.types import MISSING_LABEL, RunPlan

Array = npt.NDArray[Any]
Scores = dict[str, Array]

FOREIGN_SUMS = (
    "The champion's partners trained other encoders than the challenger's; it was scored with the challenger's score "
    "sums, as its own are not in this home."
)
NO_SUMS = "The champion takes other score sums than this home holds, so it was scored without any: bank alone."
AS_SERVED = "The {} is judged bank alone, as it is served: {}."
OTHER_SPLIT = "the champion was trained on another split, so it may have learnt from customers who are held out here"


@dataclass(frozen=True)
class Held:
    """The n customers of a home. sums: (n, C) opened score sums; ``data`` knows labels, split and who knows whom."""

    data: OwnerData = field(repr=False)
    sums: npt.NDArray[np.float32] = field(repr=False)
    home: NodeHome = field(repr=False)

    @property
    def views(self) -> npt.NDArray[np.int64]:
        """(n,) how many roles' scores stand behind a customer's; 0 is the bank alone."""
        counted: npt.NDArray[np.int64] = (self.data.known != 0).sum(1)
        return counted

    def test(self, task: str) -> npt.NDArray[np.int64]:
        """Rows of test customers with a label of the task."""
        return np.flatnonzero(self.data.test & (self.data.labels[task] != MISSING_LABEL))


def read_held(home: NodeHome, bundle: Bundle) -> Held:
    """The home in which ``bundle`` was made. Raises UsageError where it was made by another run."""
    plan, roster = home.read("plan.json"), pinned_roster(home)
    if plan is None or roster is None:
        raise UsageError(f"{home.path} holds no finished training", "Name the label owner's home of the bundle's run.")
    made = RunPlan.from_json(plan)
    if made.hash.hex() != bundle.meta.get("plan"):
        what = f"the bundle was not made by the run in {home.path}"
        raise UsageError(what, "Name the label owner's home of its own run: the score sums are of that run's encoders.")
    data = owner_data(home, made, roster)
    return Held(data, read_sums(home, data.slots), home)


def score(bundle: Bundle, held: Held) -> Scores:
    """{task: (n, K)} of every customer, with the partners' sums where the bundle takes them and is served with them."""
    if why_alone(bundle, held) or bundle.model.sums != held.sums.shape[1] or bundle.roles != held.data.roles:
        return bundle.score(held.data.table)
    return bundle.score(held.data.table, held.sums.astype(np.float64), held.data.known.astype(np.float64))


def why_alone(bundle: Bundle, held: Held) -> str | None:
    """Why the bundle is served, and so judged, bank alone; None: with its partners.

    A home that has finished fewer runs than partners keep has lost none: a bundle of a run that it does not know was
    made in another home, of which this one can say nothing.
    """
    runs = kept_runs(held.home)
    return why_bank_alone(bundle.meta, runs if len(runs) == KEPT else None)


def notes(challenger: Bundle, champion: Bundle | None, held: Held) -> tuple[str, ...]:
    """What a reader must know before comparing the two on these customers."""
    why = why_alone(challenger, held)
    of_challenger = (AS_SERVED.format("challenger", why),) if why else ()
    return of_challenger + (() if champion is None else _champion_notes(challenger, champion, held))


def _champion_notes(challenger: Bundle, champion: Bundle, held: Held) -> tuple[str, ...]:
    if why := why_alone(champion, held):
        return (AS_SERVED.format("champion", why),)
    if champion.model.sums != held.sums.shape[1] or champion.roles != held.data.roles:
        return (NO_SUMS,)
    return () if same_encoders(champion, challenger) else (FOREIGN_SUMS,)


def same_encoders(one: Bundle, other: Bundle) -> bool:
    """By the digests that all partners acknowledged of both; without them nobody knows, and neither is served fused."""
    digests = encoder_digests(one.meta)
    return bool(digests) and digests == encoder_digests(other.meta)


def same_split(challenger: Bundle, champion: Bundle) -> bool:
    """Whether customers held out from one were held out from the other; False where a bundle does not say."""
    return champion.meta.get("fold") is not None and champion.meta.get("fold") == challenger.meta.get("fold")
