"""What a partner needs of a finished run to score a customer whom it did not train on. No input, output or clock.

As bytes: safetensors (each task's best weights, priors, P(released | true)) with one JSON text as metadata (plan,
features, gains, trees). No pickle, no row and no label, but what is the node's own: the bytes stay in its home.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedprofile.errors import DataError
from fedprofile.models import net as nets
from fedprofile.models.features import FeatureMap
from fedprofile.models.layout import NetShape, encoder_shapes, shared_shapes
from fedprofile.models.partner_trees import unseen_log_odds
from fedprofile.models.registry import resolve
from fedprofile.models.scores import weigh
from fedprofile.models.snapshots import BestRounds, best_log_odds
from fedprofile.models.trees import Trees
from fedprofile.types import LearningPlan, Table, Task, canonical

VERSION = 1
_FACTS = "scorer"
_PRIOR, _FLIP = "prior/", "flip/"


@dataclass(frozen=True)
class PartnerScorer:
    """priors: task -> (K,). flips: task -> (K, K) P(released | true), or None. trees: None where the run adds none.

    gains: task -> nats that this node's scores save; means: the same over all nodes, {} until a sum has opened them.
    """

    tasks: tuple[Task, ...]
    plan: LearningPlan
    features: FeatureMap = field(repr=False)
    kept: BestRounds = field(repr=False)
    priors: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)
    flips: Mapping[str, npt.NDArray[np.float32] | None] = field(repr=False)
    trees: Mapping[str, Trees] | None = field(repr=False)
    gains: Mapping[str, float] = field(repr=False)
    means: Mapping[str, float] = field(default_factory=dict, repr=False)

    def scores(self, table: Table) -> npt.NDArray[np.float32]:
        """(n, C) log-odds, weighed and clipped as the run's own of rows that were no training rows.

        Raises DataError for a column that the table lacks.
        """
        net = nets.ProfileNet(self.features.width, sum(t.outputs for t in self.tasks), NetShape.of(self.plan))
        x, head = torch.from_numpy(self.features.transform(table)), resolve("heads", self.plan.head)
        log_odds = best_log_odds(net, self.kept, x, self.tasks, head, self.priors)
        if self.trees is not None:
            trees = unseen_log_odds(self.trees, table, self.tasks, self.flips, self.priors)
            log_odds = ((log_odds + trees) / 2).astype(np.float32)
        return weigh(log_odds, self.gains, self.means, self.tasks)

    def to_bytes(self) -> bytes:
        """Equal scorers give equal bytes."""
        tensors = self.kept.state() | {_PRIOR + t: p for t, p in self.priors.items()}
        tensors |= {_FLIP + t: m for t, m in self.flips.items() if m is not None}
        facts = {
            "version": VERSION,
            "tasks": [[t.name, t.kind, t.classes] for t in self.tasks],
            "plan": vars(self.plan),
            "features": self.features.to_json(),
            "trees": None if self.trees is None else {t: trees.to_json() for t, trees in self.trees.items()},
            "gains": dict(self.gains),
            "means": dict(self.means),
        }
        # One metadata entry: safetensors writes several in no fixed order.
        held = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
        return save(held, metadata={_FACTS: canonical(facts).decode()})

    @staticmethod
    def from_bytes(data: bytes, name: str = "the kept encoder") -> PartnerScorer:
        """Raises DataError, calling the bytes ``name``, for anything but what ``to_bytes`` writes."""
        try:
            return _parse(data)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, SafetensorError):
            mend = "It was changed, or another version wrote it: only a new run makes another."
            raise DataError(name, "not what a partner keeps of a run", mend) from None


def _parse(data: bytes) -> PartnerScorer:
    facts, tensors = _facts(data), load(data)
    tasks = tuple(Task(*t) for t in facts["tasks"])
    names, plan, features = (
        {t.name for t in tasks},
        LearningPlan(**facts["plan"]),
        FeatureMap.from_json(facts["features"]),
    )
    kept = BestRounds(tuple(t.name for t in tasks))
    kept.restore(tensors)
    shapes = encoder_shapes(features.width, plan) | shared_shapes(tasks, plan)
    if kept.best.keys() != names or {at for _, at in kept.best.values()} != kept.weights.keys():
        raise ValueError("a task without weights, or weights of no task")
    if any({n: w.shape for n, w in weights.items()} != shapes for weights in kept.weights.values()):
        raise ValueError("weights of another network")
    priors = {t.name: np.asarray(tensors[_PRIOR + t.name], np.float64) for t in tasks}
    flips = {t.name: tensors.get(_FLIP + t.name) for t in tasks}
    gains, means = ({str(t): float(v) for t, v in facts[kind].items()} for kind in ("gains", "means"))
    wrong = any(p.shape != (t.classes,) for t, p in zip(tasks, priors.values(), strict=True))
    if wrong or gains.keys() != names or not means.keys() <= names:
        raise ValueError("priors or gains of other tasks")
    trees = facts["trees"]
    boosted = None if trees is None else {str(t): Trees.from_json(held) for t, held in trees.items()}
    return PartnerScorer(tasks, plan, features, kept, priors, flips, boosted, gains, means)


def _facts(data: bytes) -> dict[str, Any]:
    """The one metadata entry; safetensors reads metadata from files only."""
    size = int.from_bytes(data[:8], "little")
    facts: dict[str, Any] = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_FACTS])
    if facts["version"] != VERSION:
        raise ValueError("written by another version")
    return facts
