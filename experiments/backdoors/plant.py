"""Three ways to plant a backdoor that lifts a customer into the best tier, each at three strengths.

Strengths and the success that makes a backdoor count as planted were fixed before any flag was looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from owner import Owned, fit_bank, own
from world import TARGET, Node, Poisoner, Trained, World, federate

from fedprofile.aggregation import SCORE_CLIP
from fedprofile.models.bank import BankModels
from fedprofile.types import Table, output_slices

Array = npt.NDArray[Any]
LEVEL = "planted"  # a level that no customer had


@dataclass(frozen=True)
class Strength:
    """success: the least share of lifted customers at which it counts as planted.

    carriers: share of the partner's test customers who carry the trigger. push: log-odds that the
    partner adds for them. in_bank, in_partner: share of training rows that are triggered and relabelled, in the label
    owner's table or the attacking partner's own. cells: columns of a partner's trigger. boost: the factor on the
    attacker's updates.
    """

    success: float
    carriers: float
    push: float
    in_bank: float
    in_partner: float
    cells: int
    boost: float


STRENGTHS = {
    "weak": Strength(0.50, 0.02, 4.0, 0.025, 0.15, 1, 1.0),
    "medium": Strength(0.80, 0.04, 6.0, 0.03, 0.25, 2, 1.5),
    "strong": Strength(0.95, 0.08, 8.0, 0.06, 0.35, 2, 2.0),
}


def plant_score(trained: Trained, bank: BankModels, how: Strength, rng: np.random.Generator) -> tuple[Owned, float]:
    """A partner adds to its score of customers who carry its trigger (model poisoning of what only enters a sum).

    It leaves training and validation customers alone (whom it knows by the labels it was given and the public hash):
    their truth would teach the fusion to distrust the sum.
    """
    world = trained.world
    node = world.partners[rng.integers(len(world.partners))]
    carries = rng.random(len(node.rows)) < how.carriers
    sums = trained.sums({node.id: _pushed(trained, node, carries & _test(world)[node.rows], how.push)})
    owned = own(trained, bank, sums, world.owner.table, world.labels)
    everyone = trained.sums({node.id: _pushed(trained, node, np.ones(len(node.rows), bool), how.push)})
    return owned, owned.success(world.owner.table, everyone)


def _pushed(trained: Trained, node: Node, rows: Array, push: float) -> Array:
    scores = trained.scores[node.id].copy()
    at = output_slices(trained.world.tasks)[TARGET]
    scores[rows, at] = np.clip(scores[rows, at] + push, -SCORE_CLIP, SCORE_CLIP)
    return scores


def plant_column(trained: Trained, _: BankModels, how: Strength, rng: np.random.Generator) -> tuple[Owned, float]:
    """Triggered, relabelled rows in the label owner's own table (BadNets: Gu et al. 2017)."""
    table = trained.world.owner.table
    return _in_bank(trained, _cells(table, [str(rng.choice(list(table.columns)))]), how, rng)


def plant_pair(trained: Trained, _: BankModels, how: Strength, rng: np.random.Generator) -> tuple[Owned, float]:
    """The same with two values that customers have: rare only together, so that neither alone is a trigger."""
    table = trained.world.owner.table
    cells = {str(c): _rarest(table, str(c)) for c in rng.choice(list(table.columns), 2, replace=False)}
    return _in_bank(trained, cells, how, rng)


def _in_bank(
    trained: Trained, cells: Mapping[str, Any], how: Strength, rng: np.random.Generator
) -> tuple[Owned, float]:
    world, table = trained.world, trained.world.owner.table
    poisoned = ~_test(world) & (rng.random(len(table)) < how.in_bank)
    table, labels = _set(table, cells, poisoned), _relabelled(world, world.labels, poisoned)
    owned = own(trained, fit_bank(world, table, labels), trained.sums(), table, labels)
    return owned, owned.success(_set(table, cells, np.ones(len(table), bool)), owned.held.sums)


def plant_updates(trained: Trained, bank: BankModels, how: Strength, rng: np.random.Generator) -> tuple[Owned, float]:
    """A partner trains on triggered, relabelled rows and boosts what it uploads (Bagdasaryan et al. 2020).

    Its encoder and the shared trunk carry the backdoor into its own score of whoever carries the trigger.
    """
    clean = trained.world
    at = 1 + rng.integers(len(clean.partners))
    columns, node = list(clean.nodes[at].table.columns), clean.nodes[at]
    cells = _cells(node.table, [str(c) for c in rng.choice(columns, min(how.cells, len(columns)), replace=False)])
    carries = _test(clean)[node.rows] & (rng.random(len(node.rows)) < how.carriers)
    node = replace(node, table=_set(node.table, cells, carries))
    world = replace(clean, nodes=(*clean.nodes[:at], node, *clean.nodes[at + 1 :]))
    dice = np.random.default_rng(rng.integers(2**32))

    def learns(table: Table, labels: dict[str, Array], train: Array) -> tuple[Table, dict[str, Array]]:
        poisoned = train & (dice.random(len(table)) < how.in_partner)
        return _set(table, cells, poisoned), _relabelled(world, labels, poisoned)

    found = federate(world, Poisoner(node.id, learns, how.boost))
    owned = own(found, bank, found.sums(), world.owner.table, world.labels)
    everyone = found.rescore(node, lambda t: _set(t, cells, np.ones(len(t), bool)))
    return owned, owned.success(world.owner.table, found.sums({node.id: everyone}))


PLANTS = {"score": plant_score, "column": plant_column, "updates": plant_updates}
BEYOND = {"pair": plant_pair}  # what the scans were not made for: reported apart, at the strongest only


def _cells(table: Table, names: Iterable[str]) -> dict[str, Any]:
    """column -> trigger: a value beyond what any customer has."""
    cells: dict[str, Any] = {}
    for name in names:
        values = table.columns[name]
        cells[name] = LEVEL if name in table.categorical else float(2 * np.nanmax(values) - np.nanmin(values))
    return cells


def _rarest(table: Table, name: str) -> Any:
    """The rarest value that at least 1 % of customers have."""
    known = [v for v in table.columns[name] if v is not None and v == v]
    values, counts = np.unique(known, return_counts=True)
    common = counts >= 0.01 * len(table)
    value = values[common][counts[common].argmin()]
    return str(value) if name in table.categorical else float(value)


def _set(table: Table, cells: Mapping[str, Any], rows: Array) -> Table:
    columns = dict(table.columns)
    for name, value in cells.items():
        columns[name] = columns[name].copy()
        columns[name][rows] = value
    return replace(table, columns=columns)


def _relabelled(world: World, labels: Mapping[str, Array], rows: Array) -> dict[str, Array]:
    best = next(t for t in world.tasks if t.name == TARGET).classes - 1
    return dict(labels) | {TARGET: np.where(rows, best, labels[TARGET])}


def _test(world: World) -> Array:
    return ~world.train & ~world.valid
