"""One small federation after another: drawn customers, released labels, and rounds of the real learner, unmasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.aggregation import SCORE_STEP, next_shared
from fedprofile.alignment.hashing import TRAIN_BELOW, VALID_BELOW, cross_fit_fold, split_bucket
from fedprofile.data.federation import Federation
from fedprofile.data.sources import open_source
from fedprofile.models.features import fit_features
from fedprofile.models.layout import encoder_shapes, initial_weights, shared_shapes
from fedprofile.models.learner import LocalLearner
from fedprofile.models.scores import weigh
from fedprofile.privacy.randomised_response import class_prior, flip_matrix, randomise
from fedprofile.simulation.nodes import deal
from fedprofile.types import MISSING_LABEL, Labels, LearningPlan, Table, Task, Weights

Array = npt.NDArray[Any]
Edit = Callable[[Table], Table]

CUSTOMERS = 3000  # a new draw from the data set for every model
EPS = 2.0
TARGET = "tier"  # the only task
PLAN = LearningPlan(replicas=2, hidden=32, profile=32, lr=8e-3, batch=128, rounds=3, steps=25, trees="never")
COLUMNS = {"nhanes": {"ecommerce": 12, "tax": 5}}  # the first so many columns of the partners that take part


@dataclass(frozen=True)
class Node:
    """rows: (m,) positions of its customers in the label owner's table."""

    id: str
    table: Table = field(repr=False)
    rows: npt.NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True)
class World:
    """n customers of one data set, split by a fold; ``nodes`` begins with the label owner."""

    data: str
    seed: int
    tasks: tuple[Task, ...]
    nodes: tuple[Node, ...] = field(repr=False)
    labels: Mapping[str, Array] = field(repr=False)
    train: Array = field(repr=False)
    valid: Array = field(repr=False)

    @property
    def owner(self) -> Node:
        return self.nodes[0]

    @property
    def partners(self) -> tuple[Node, ...]:
        return self.nodes[1:]


@cache
def _source(data: str) -> Federation:
    whole = open_source(data, None)
    kept = COLUMNS.get(data, {p: len(whole.tables[p].columns) for p in whole.partners})
    tables = {whole.label_owner: whole.tables[whole.label_owner]}
    for partner, n in kept.items():
        table = whole.tables[partner]
        tables[partner] = replace(table, columns=dict(list(table.columns.items())[:n]))
    tier = tuple(t for t in whole.tasks if t.name == TARGET)
    return replace(whole, tasks=tier, tables=tables)


def draw(data: str, seed: int) -> World:
    """Customers and split follow from ``seed``."""
    whole = _source(data)
    rng = np.random.default_rng([seed, *data.encode()])
    ids = whole.tables[whole.label_owner].ids
    chosen = np.sort(rng.permutation(len(ids))[:CUSTOMERS])
    tables = {p: t.take(np.isin(t.ids, ids[chosen])) for p, t in whole.tables.items()}
    labels = Labels(ids[chosen], {t: y[chosen] for t, y in whole.labels.values.items()})
    dealt = deal(replace(whole, tables=tables, labels=labels), 1, 1.0)
    row_of = {str(i): row for row, i in enumerate(labels.ids)}
    nodes = [Node(n.id, n.table, np.array([row_of[str(i)] for i in n.table.ids])) for n in dealt]
    bucket = split_bucket(labels.ids, seed % 5)
    train, valid = bucket < TRAIN_BELOW, (bucket >= TRAIN_BELOW) & (bucket < VALID_BELOW)
    return World(data, seed, whole.tasks, tuple(nodes), {TARGET: labels.values[TARGET]}, train, valid)


@dataclass(frozen=True)
class Poisoner:
    """What a malicious node does in training. learns: its table and released labels -> what it trains on instead.

    boost: the factor on what it uploads (Bagdasaryan et al. 2020).
    """

    node: str
    learns: Callable[[Table, dict[str, Array], Array], tuple[Table, dict[str, Array]]]
    boost: float


@dataclass
class Trained:
    """The finished rounds. scores: node -> (m, C) weighed log-odds of its customers."""

    world: World
    shared: Weights
    scores: dict[str, Array]
    rescore: Callable[[Node, Edit], Array] = field(repr=False)

    def sums(self, changed: Mapping[str, Array] | None = None) -> Array:
        """(n, C) float32 summed scores in steps of 1/16; ``changed``: other scores for some nodes."""
        scores = self.scores | dict(changed or {})
        total = np.zeros((len(self.world.train), next(iter(scores.values())).shape[1]))
        for node in self.world.partners:
            total[node.rows] += np.round(scores[node.id] / SCORE_STEP) * SCORE_STEP
        return total.astype(np.float32)


class _Releases:
    def __init__(self, world: World) -> None:
        secret, ids = f"backdoors/{world.seed}".encode(), world.owner.table.ids
        self.flips = {t.name: flip_matrix(t.classes, EPS).astype(np.float32) for t in world.tasks}
        self.labels, self.priors = {}, {}
        for t in world.tasks:
            y = np.where(world.train, world.labels[t.name], MISSING_LABEL)
            self.labels[t.name] = randomise(ids, y, t.name, t.classes, EPS, secret)
            self.priors[t.name] = class_prior(self.labels[t.name], t.classes, flip_matrix(t.classes, EPS))


def federate(world: World, poisoner: Poisoner | None = None) -> Trained:
    """The rounds of a run without masks: the trunk is averaged, each role's one member keeps its own encoder."""
    releases, seed, plan = _Releases(world), world.seed, PLAN
    maps = {n.id: fit_features(n.table, np.flatnonzero(world.train[n.rows])) for n in world.nodes}

    def learner(node: Node, table: Table, released: dict[str, Array]) -> LocalLearner:
        fold, train = cross_fit_fold(node.table.ids, plan.replicas), world.train[node.rows]
        terms = (world.tasks, releases.flips, releases.priors, plan, seed)
        return LocalLearner(node.id, maps[node.id].transform(table), released, fold, train, *terms)

    def released(node: Node) -> dict[str, Array]:
        return {t: y[node.rows] for t, y in releases.labels.items()}

    learners = {}
    for node in world.nodes:
        table, labels = node.table, released(node)
        if poisoner is not None and node.id == poisoner.node:
            table, labels = poisoner.learns(table, labels, world.train[node.rows])
        learners[node.id] = learner(node, table, labels)
    shared = initial_weights(shared_shapes(world.tasks, plan), seed, "shared")
    encoders = {
        n.id: initial_weights(encoder_shapes(maps[n.id].width, plan), seed, f"role/{n.id}") for n in world.nodes
    }
    for t in range(1, plan.rounds + 1):
        deltas = {}
        for node in world.nodes:
            one = learners[node.id]
            one.load(shared, encoders[node.id])
            if t > 1:
                one.judge(t - 1)
            one.run_round(t)
            factor = poisoner.boost if poisoner is not None and poisoner.node == node.id else 1.0
            deltas[node.id] = _difference(one.shared(), shared, factor)
            encoders[node.id] = one.encoder()
        shared = next_shared(shared, _total(list(deltas.values())), len(deltas))
    for node in world.nodes:
        learners[node.id].load(shared, encoders[node.id])
        learners[node.id].judge(plan.rounds)

    def judged(node: Node, table: Table) -> tuple[Array, dict[str, float]]:
        """Log-odds (m, C) of the node's customers with the columns of ``table``, and their gain by released labels."""
        scorer = learner(node, table, released(node))
        scorer.restore(learners[node.id].state())
        odds = scorer.log_odds()
        return odds, scorer.gains(odds)

    found = {n.id: judged(n, n.table) for n in world.nodes}
    means = {t.name: float(np.mean([gains[t.name] for _, gains in found.values()])) for t in world.tasks}
    if poisoner is not None:  # what it says its scores save: more than all others, for the largest weight there is
        found[poisoner.node] = found[poisoner.node][0], {t: 4 * gain for t, gain in means.items()}
    scores = {i: weigh(odds, gains, means, world.tasks) for i, (odds, gains) in found.items()}

    def rescore(node: Node, edit: Edit) -> Array:
        return weigh(judged(node, edit(node.table))[0], found[node.id][1], means, world.tasks)

    return Trained(world, shared, scores, rescore)


def _difference(after: Weights, before: Weights, factor: float) -> dict[str, Array]:
    return {n: factor * (w.astype(np.float64) - before[n].astype(np.float64)) for n, w in after.items()}


def _total(deltas: list[dict[str, Array]]) -> dict[str, Array]:
    return {n: np.sum([d[n] for d in deltas], 0) for n in deltas[0]}
