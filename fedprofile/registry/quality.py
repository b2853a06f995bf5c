"""Measures of quality on held-out customers: discrimination, calibration, stability, fairness, and by views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.data.contract_drift import BINS, psi
from fedprofile.governance.gates import Measure, Part, Settings
from fedprofile.models import metrics
from fedprofile.registry.bundle import Bundle
from fedprofile.registry.holdout import OTHER_SPLIT, Held, Scores
from fedprofile.types import Task

Array = npt.NDArray[Any]

NO_CHAMPION = "there is no champion to compare with"
ONE_CLASS = "the customers do not hold every class"
_LEVELS = 10


def discrimination(
    task: Task, held: Held, new: Scores, old: Scores | None, comparable: bool, settings: Settings
) -> Iterator[Measure]:
    """AUC and ECE with intervals, and AUC and log-loss against the champion, paired."""
    rows = held.test(task.name)
    y, p = held.data.labels[task.name][rows], new[task.name][rows]
    q = None if old is None or task.name not in old else old[task.name][rows]
    drawn, others, differences = (settings.draws, settings.seed), {}, {}
    if q is None:
        ends = metrics.bootstrap(y, {"a": p}, *drawn)
    else:
        (ends, differences), others = metrics.beside(y, p, q, *drawn), metrics.evaluate(y, q)
    values, unknown = metrics.evaluate(y, p), (None, None)
    for gate, name in (("auc", "auc"), ("calibration", "ece")):
        (low, high), theirs = ends["a"][name] or unknown, ends.get("b", {}).get(name) or unknown
        found = values[name], low, high, others.get(name), len(rows), _undefined(values[name]), *theirs
        yield Measure(gate, task.name, *found)
    compared = (("auc_against_champion", "auc"), ("log_loss_against_champion", "log_loss"))
    if q is None or not comparable:
        why = NO_CHAMPION if q is None else OTHER_SPLIT
        yield from (Measure(gate, task.name, None, note=why) for gate, _ in compared)
        return
    for gate, name in compared:
        if (d := differences[name]) is None:
            yield Measure(gate, task.name, None, count=len(y), note=ONE_CLASS)
        else:
            yield Measure(gate, task.name, d["difference"], d["low"], d["high"], count=len(y))


def by_views(task: Task, held: Held, new: Scored, old: Scored | None, settings: Settings) -> Iterator[Measure]:
    """AUC of customers whom 0, 1, 2, … roles know, and of all should the partners fall silent."""
    rows = held.test(task.name)
    views = held.views[rows]
    models = {"new": new} if old is None or task not in old.bundle.tasks else {"new": new, "old": old}
    with_partners = {who: model.scores[task.name] for who, model in models.items()}
    for count in range(held.data.known.shape[1] + 1):
        yield _views(f"{task.name}, {count} views", task, held, with_partners, rows[views == count], settings)
    silent = {who: model.alone[task.name] for who, model in models.items()}
    yield _views(f"{task.name}, partners silent", task, held, silent, rows, settings)


def _views(subject: str, task: Task, held: Held, scores: Scores, rows: Array, settings: Settings) -> Measure:
    """scores: (n, K) of the challenger, ``new``, and where there is one of the champion, ``old``."""
    if len(rows) < settings.smallest_group:
        note = f"{len(rows)} customers, {settings.smallest_group} are needed"
        return Measure("views", subject, None, count=len(rows), note=note)
    y, drawn = held.data.labels[task.name][rows], {who: p[rows] for who, p in scores.items()}
    ends, unknown = metrics.bootstrap(y, drawn, settings.draws, settings.seed), (None, None)
    values = {who: metrics.evaluate(y, p)["auc"] for who, p in drawn.items()}
    (low, high), theirs = ends["new"]["auc"] or unknown, ends.get("old", {}).get("auc") or unknown
    found = values["new"], low, high, values.get("old"), len(rows), _undefined(values["new"]), *theirs
    return Measure("views", subject, *found)


def stability(held: Held, new: Scores, tasks: tuple[Task, ...]) -> Iterator[Measure]:
    """PSI (Siddiqi 2006) over deciles: scores of test against validation customers, whom the model did not learn from
    (its scores of training customers are surer), and each of the label owner's columns, test against training.
    """
    test, valid, train = held.data.test, held.data.valid, held.data.train
    for task in tasks:
        expected = new[task.name] @ np.arange(task.classes)
        value = _psi(expected[valid], expected[test])
        yield Measure("score_psi", task.name, value, count=int(test.sum()))
    for name, values in held.data.table.columns.items():
        yield Measure("input_psi", name, _psi(values[train], values[test]), count=int(test.sum()))


def _psi(before: Array, now: Array) -> float | None:
    if not len(before) or not len(now):
        return None
    if before.dtype == object:
        place = {level: i for i, level in enumerate(sorted({v for v in before if v is not None}))}
        codes = [np.array([0 if v is None else 1 + place.get(v, len(place)) for v in part]) for part in (before, now)]
        width = len(place) + 2
    else:
        edges = np.unique(np.nanquantile(before, np.arange(1, BINS) / BINS)) if not np.isnan(before).all() else []
        codes = [np.where(np.isnan(v), 0, 1 + np.searchsorted(edges, v, side="left")) for v in (before, now)]
        width = len(edges) + 2
    a, b = (np.bincount(c, minlength=width) for c in codes)
    used = (a + b) > 0
    return psi(a[used].tolist(), b[used].tolist())


@dataclass(frozen=True)
class Scored:
    """A bundle with its scores {task: (n, K)} of a home's customers; ``alone``: without any partner's."""

    bundle: Bundle
    scores: Scores = field(repr=False)
    alone: Scores = field(repr=False)

    def finds(self, task: Task, rows: Array) -> Array:
        """(m,) 1.0 where the bundle's own thresholds choose the need, or the top level."""
        found: Array = (self.bundle.decide(task, self.scores[task.name][rows]) == task.classes - 1).astype(float)
        return found


def fairness(held: Held, new: Scored, old: Scored | None, settings: Settings) -> Iterator[Measure]:
    """Equal opportunity (Hardt, Price and Srebro 2016): the largest difference between groups in the share of
    customers with the need, or of the top level, whom the bundle's own thresholds find.
    """
    columns = settings.groups or tuple(new.bundle.meta.get("groups", ()))
    if not columns:
        yield Measure("fairness", "", None, note="neither promotion.groups nor the data name a column")
    for column in columns:
        values = held.data.table.columns.get(column)
        if values is None:
            yield Measure("fairness", column, None, note="the label owner's table has no such column")
            continue
        groups = group_codes(values)
        for task in new.bundle.tasks:
            yield _gap(held, new, old, task, column, groups, settings)


def _gap(held: Held, new: Scored, old: Scored | None, task: Task, column: str, groups: Array, s: Settings) -> Measure:
    subject, top = f"{task.name} by {column}", task.classes - 1
    rows = held.test(task.name)
    rows = rows[held.data.labels[task.name][rows] == top]
    names, code, counts = np.unique(groups[rows], return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts >= s.smallest_group)
    sizes = ", ".join(f"{n}: {c}" for n, c in zip(names, counts, strict=True))
    if len(kept) < 2:
        note = f"fewer than two groups with {s.smallest_group} such customers ({sizes})"
        return Measure("fairness", subject, None, count=len(rows), note=note)

    found, beside = new.finds(task, rows), None
    if old is not None and task in old.bundle.tasks:
        beside = _shares(old.finds(task, rows)[None], code[None], kept)[:, 0]
    drawn = np.random.default_rng(s.seed).integers(0, len(rows), (s.draws, len(rows)))
    resampled, shares = _shares(found[drawn], code[drawn], kept), _shares(found[None], code[None], kept)[:, 0]
    low, high = np.nanpercentile(_spread(resampled), (2.5, 97.5))
    ends = np.nanpercentile(resampled, (2.5, 97.5), axis=1)
    judged = {int(g): (shares[i], *ends[:, i], None if beside is None else beside[i]) for i, g in enumerate(kept)}
    parts = tuple(Part(str(n), int(c), *judged.get(i, ())) for i, (n, c) in enumerate(zip(names, counts, strict=True)))
    before = None if beside is None else _spread(beside)
    return Measure("fairness", subject, _spread(shares), low, high, before, len(rows), f"groups {sizes}", parts=parts)


def _shares(found: Array, code: Array, groups: Array) -> Array:
    """(groups, draws) share found in each group; found, code (draws, n)."""
    shares = []
    for group in groups:
        inside = code == group
        with np.errstate(invalid="ignore"):
            shares.append((found * inside).sum(1) / inside.sum(1))
    return np.array(shares)


def _spread(shares: Array) -> Array:
    """Largest minus smallest share over groups, the first axis."""
    spread: Array = np.max(shares, 0) - np.min(shares, 0)
    return spread


def group_codes(values: Array) -> Array:
    """(n,) names of groups: levels of a category or of a number with few, else quarters of its range by rank."""
    if values.dtype == object:
        return np.array(["missing" if v is None else str(v) for v in values])
    known = ~np.isnan(values)
    if len(np.unique(values[known])) <= _LEVELS:
        return np.array([f"{v:g}" if k else "missing" for v, k in zip(values, known, strict=True)])
    quarter = np.searchsorted(np.nanquantile(values, (0.25, 0.5, 0.75)), values, side="left")
    return np.where(known, np.char.add("quarter ", (quarter + 1).astype(str)), "missing")


def _undefined(value: float | None) -> str:
    return ONE_CLASS if value is None else ""
