"""An invented federation in the shapes of the 2019 Survey of Consumer Finances, and a job folder made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bare import NodeData

from fedprofile.alignment.hashing import TRAIN_BELOW, cross_fit_fold, split_bucket
from fedprofile.config.compose import compose
from fedprofile.config.planning import make_plan, make_policy, views_needed
from fedprofile.coordinator.job import Job
from fedprofile.data.federation import Federation, make_federation
from fedprofile.models.features import fit_features
from fedprofile.privacy.randomised_response import flip_matrix, randomise
from fedprofile.simulation.homes import give_alignment, give_labels, make_homes, make_roster, pin, write_job
from fedprofile.simulation.nodes import align, deal
from fedprofile.simulation.plan import facts_of
from fedprofile.types import Labels, LearningPlan, Table, Task

CUSTOMERS = 5777
COLUMNS = {"bank": (24, 1), "commerce": (15, 1), "tax": (12, 2), "insurer": (9, 0)}
TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2), Task("lifeins", "binary", 2))


def invented(seed: int = 0) -> Federation:
    """Four parties that know all CUSTOMERS customers; numeric and categorical columns as in COLUMNS."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"BENCH-{i:05d}" for i in range(CUSTOMERS)])
    wealth = rng.normal(size=CUSTOMERS)
    tables = {}
    for party, (numeric, categorical) in COLUMNS.items():
        columns = {}
        for i in range(numeric):
            noisy = wealth * rng.uniform(0, 0.6) + rng.normal(size=CUSTOMERS)
            columns[f"n{i}"] = np.round(np.exp(noisy * 0.7 + 6)) if i % 2 else np.round(noisy, 2)
        for i in range(categorical):
            columns[f"c{i}"] = np.array([f"k{v}" for v in rng.integers(0, 6, CUSTOMERS)], dtype=object)
        names = frozenset(n for n in columns if n.startswith("c"))
        tables[party] = Table(ids, columns, names)
    seen = wealth + 0.7 * rng.normal(size=CUSTOMERS)
    values = {
        "tier": np.digitize(seen, [-0.4, 0.6]).astype(np.int64),
        "invest": (seen > 0.5).astype(np.int64),
        "lifeins": (wealth + 2 * rng.normal(size=CUSTOMERS) > 0).astype(np.int64),
    }
    return make_federation("invented", "id", "bank", TASKS, tables, Labels(ids, values))


@dataclass(frozen=True)
class Ready:
    """Node homes and a job folder, not yet run."""

    homes: dict[str, Path]
    job: Path
    plan: LearningPlan


def prepare(federation: Federation, folder: Path, overrides: tuple[str, ...]) -> Ready:
    """What ``fedprofile train`` does before its first message."""
    fixed = ("align=simulated", "learning.trees=never", "federation.members=1", "federation.workers=1")
    config = compose([*fixed, *overrides])
    nodes = deal(federation, config.members, config.federation.overlap)
    modes = ("simulated", "simulated", config.secure.profile, "simulated")
    homes = make_homes(folder / "nodes", federation, nodes, *modes)
    give_labels(homes[federation.label_owner], federation, config.data.fold)
    give_alignment(homes, federation.label_owner, align(nodes, federation.digest, views_needed(config)))
    facts = facts_of(config, federation, nodes)
    roster, policy = make_roster(homes, federation.label_owner), make_policy(config, facts)
    pin(homes, roster, policy)
    plan = make_plan(config, facts, roster, policy, None)
    write_job(folder / "coordinator", Job(plan, roster, policy, config.secure.profile))
    return Ready({p: h.path for p, h in homes.items()}, folder / "coordinator", plan.learning)


def in_memory(federation: Federation, replicas: int, eps: float = 2.0) -> list[NodeData]:
    """The same rows, features and randomised labels for the bare loop."""
    train = split_bucket(federation.labels.ids) < TRAIN_BELOW
    labels, flips = {}, {}
    for task in TASKS:
        true, secret = federation.labels.values[task.name], bytes(32)
        released = randomise(federation.labels.ids, true, task.name, task.classes, eps, secret)
        labels[task.name] = np.where(train, released, -1)
        flips[task.name] = flip_matrix(task.classes, eps).astype(np.float32)
    fold = cross_fit_fold(federation.labels.ids, replicas)
    return [
        NodeData(fit_features(t, np.flatnonzero(train)).transform(t), labels, flips, fold, train)
        for t in federation.tables.values()
    ]
