"""What the federated model is compared with: pooled models and partners that do not federate. Simulation only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.config.schema import Config
from fedprofile.data.federation import Federation
from fedprofile.label_owner.evaluate import Fusion, OwnerData, Probabilities
from fedprofile.models.bank import fit_wide
from fedprofile.models.features import fit_features
from fedprofile.models.fusion import fit_fusion
from fedprofile.models.scores import weigh
from fedprofile.node.home import NodeHome
from fedprofile.node.run import NodeRun
from fedprofile.node.scoring import place
from fedprofile.simulation.cache import Cache
from fedprofile.types import Roster, RunPlan, Table

Sums = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Baselines:
    """Probabilities (n, K) by task of all the label owner's customers, in the order of OwnerData.

    without: role -> the fusion refitted without that role's scores; empty if baselines.gain_by_partner is off.
    """

    pooled_network: Probabilities = field(repr=False)
    pooled_gbdt: Probabilities = field(repr=False)
    members_alone: Probabilities = field(repr=False)
    without: Mapping[str, Probabilities] = field(repr=False)


def compute(
    config: Config,
    federation: Federation,
    plan: RunPlan,
    roster: Roster,
    homes: Mapping[str, NodeHome],
    fusion: Fusion,
    cache: Cache,
) -> Baselines:
    """All baselines; what does not depend on the run's own scores is cached by data, split, seed and settings."""
    data, seed = fusion.data, plan.seed
    base = cache_key(config, federation, plan)
    dealt = [config.members, config.federation.overlap]  # which of the data's rows each member has
    key = ["members", *base, plan.basis.hex(), *dealt, list(config.fusion.parts), config.fusion.view_dropout]
    runs = [NodeRun(homes[p.id], plan, roster) for p in roster.parties]

    def alone() -> dict[str, Probabilities]:
        return {"alone": _fused(config, fusion, _opened(_members_alone(runs, plan), data))}

    # lightgbm and torch leave the interpreter alone while they compute, so threads use all cores without a copy
    with ThreadPoolExecutor(os.cpu_count(), initializer=_one_thread) as pool:
        members = pool.submit(cache.probabilities, key, alone)
        pooled = pool.submit(cache.probabilities, ["pooled", *base], lambda: _pooled(federation, data, plan, seed))
        roles = federation.partners if config.baselines.gain_by_partner else ()
        without = {role: pool.submit(_fused, config, fusion, *_without(runs, fusion, role)) for role in roles}
        together, apart = pooled.result(), members.result()["alone"]
        return Baselines(together["network"], together["gbdt"], apart, {r: w.result() for r, w in without.items()})


def cache_key(config: Config, federation: Federation, plan: RunPlan) -> list[object]:
    """Data, split and seed: rows are kept in the order of the ids' hashes, whatever the secrets of a run."""
    return [federation.digest.hex(), config.data.fold, plan.seed]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _without(runs: list[NodeRun], fusion: Fusion, role: str) -> tuple[Sums, Sums]:
    """Sums and presence as if a role had not taken part."""
    sums, known = fusion.sums.copy(), fusion.data.known.copy()
    for run in runs:
        if run.role == role:
            sums -= run.placed_scores()[runs[0].spine.slots].astype(np.float32)
    if role in fusion.data.roles:  # a union does not tell which role knows whom
        known[:, fusion.data.roles.index(role)] = 0
    return _opened(sums, fusion.data), known


def _opened(sums: Sums, data: OwnerData) -> Sums:
    """Nothing of customers whose score sum nobody opens; in a union nodes do not know who they are."""
    return np.where((data.known != 0).any(axis=1, keepdims=True), sums, np.float32(0))


def _pooled(federation: Federation, data: OwnerData, plan: RunPlan, seed: int) -> dict[str, Probabilities]:
    wide = pool(federation, data.table.ids)
    return fit_wide(wide, data.labels, plan.tasks, data.train, data.valid, seed)


def pool(federation: Federation, ids: npt.NDArray[np.str_]) -> Table:
    """Every party's columns for the customers ``ids``, missing where a party does not know them."""
    columns: dict[str, npt.NDArray[np.generic]] = {}
    categorical = set()
    for party, table in federation.tables.items():
        row_of = {str(i): row for row, i in enumerate(table.ids)}
        rows = np.array([row_of.get(str(i), -1) for i in ids])
        for name, values in table.columns.items():
            key = f"{party}.{name}"
            absent: Any = None if name in table.categorical else np.nan
            columns[key] = np.where(rows >= 0, values[rows], absent).astype(values.dtype)
            if name in table.categorical:
                categorical.add(key)
    return Table(ids, columns, frozenset(categorical))


def _members_alone(runs: list[NodeRun], plan: RunPlan) -> Sums:
    """Every node trains by itself on the same released labels; the same weighing, the same sum."""
    log_odds, gains = {}, {}
    for run in runs:
        trees = "never" if run.shares_encoder else plan.learning.trees
        learning = replace(plan.learning, share="none", trees=trees)
        alone = NodeRun(run.home, replace(plan, learning=learning), run.roster)
        _, train = alone.released()
        learner = alone.learner(fit_features(alone.table, np.flatnonzero(train)))
        for t in range(1, learning.rounds + 1):
            learner.run_round(t)
            learner.judge(t)
        log_odds[run.me], gains[run.me], _ = alone.judge_scores(learner)
    means = {t.name: float(np.mean([g[t.name] for g in gains.values()])) for t in plan.tasks}
    total = np.zeros((runs[0].alignment.size, sum(t.outputs for t in plan.tasks)))
    for run in runs:
        if not run.is_owner:
            total += place(weigh(log_odds[run.me], gains[run.me], means, plan.tasks), run.spine)
    return total[runs[0].spine.slots].astype(np.float32)


def _fused(config: Config, fusion: Fusion, sums: Sums, known: npt.NDArray[np.float32] | None = None) -> Probabilities:
    data = fusion.data
    present = data.known if known is None else known
    options = (config.fusion.view_dropout, config.fusion.parts)
    model = fit_fusion(data.bank, fusion.bank, sums, present, fusion.bank.tasks, config.seed, *options)
    return model.predict(data.table, sums, present)
