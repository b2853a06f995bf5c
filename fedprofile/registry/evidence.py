"""All that is measured of a bundle before people may promote it, on customers whom it never learnt from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

from fedprofile.governance.gates import Evidence, Measure, Settings
from fedprofile.node.home import NodeHome
from fedprofile.node.snapshot import read_record
from fedprofile.registry import quality
from fedprofile.registry.bundle import Bundle
from fedprofile.registry.holdout import Held, notes, read_held, same_split, score
from fedprofile.registry.redflags import flag_measures
from fedprofile.registry.shadowing import Beside, shadow_measures
from fedprofile.secagg.setup_messages import PROFILES

_REPEATS = 15
_SIMULATED = "simulated data: no snapshot was taken"
_HASH_SPLIT = (
    "Held-out customers are drawn by a hash from the same snapshot as the others: the PSI of inputs tells of that "
    "snapshot alone, not of customers who come later."
)
_RED_FLAGS = (
    "Red flags at the default bars, measured on small models (experiments/backdoors): together they found 60 of 60 "
    "strong, 54 of 56 medium and 37 of 50 weak planted backdoors, and were wrong about 1 of 100 clean models. Not seen "
    "are a trigger in a partner's score that no test customer carries yet, and one made of several usual values of the "
    "label owner's columns (1 of 8 found): a pass does not say that no backdoor is there."
)


def gather(
    challenger: Bundle,
    folder: Path,
    champion: Bundle | None,
    home: NodeHome,
    settings: Settings,
    today: date,
    shadow: Beside,
) -> Evidence:
    """Score the home's held-out customers with both bundles and measure every gate.

    Raises UsageError where the home is not that of the challenger's run.
    """
    held = read_held(home, challenger)
    measures = [*_quality(challenger, champion, held, settings), *_facts(challenger, folder, held, today)]
    measures += flag_measures(challenger, held, settings.seed)
    measures += shadow_measures(shadow, settings.smallest_group)
    told = (_HASH_SPLIT, _RED_FLAGS, *notes(challenger, champion, held))
    return Evidence(challenger.seal.manifest, champion and champion.seal.manifest, tuple(measures), told)


def _quality(challenger: Bundle, champion: Bundle | None, held: Held, settings: Settings) -> Iterator[Measure]:
    new, old = _scored(challenger, held), None if champion is None else _scored(champion, held)
    comparable = champion is not None and same_split(challenger, champion)
    for task in challenger.tasks:
        before = None if old is None or task not in old.bundle.tasks else old.scores
        yield from quality.discrimination(task, held, new.scores, before, comparable, settings)
        yield from quality.by_views(task, held, new, old, settings)
    yield from quality.stability(held, new.scores, challenger.tasks)
    yield from quality.fairness(held, new, old, settings)


def _scored(bundle: Bundle, held: Held) -> quality.Scored:
    return quality.Scored(bundle, score(bundle, held), bundle.score(held.data.table))


def _facts(bundle: Bundle, folder: Path, held: Held, today: date) -> Iterator[Measure]:
    eps = bundle.meta.get("label_eps_total")
    yield Measure("label_epsilon", "", eps, note="" if eps is not None else "true labels were released")
    profile = bundle.meta.get("secure")
    masked = None if profile is None else float(profile in PROFILES and profile != "none")
    yield Measure("secure_profile", "", masked, note=f"secure={profile}" if profile else "the bundle does not say")
    record = read_record(held.home.path)
    figure = None if record is None else record["quality"]["figure"]
    yield Measure("data_quality", "", figure, note="" if figure is not None else _SIMULATED)
    age = None if record is None else float((today - date.fromisoformat(record["read_on"])).days)
    yield Measure("data_age_days", "", age, note="" if record is not None else _SIMULATED)
    yield Measure("latency_ms", "", _latency(bundle, held))
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    yield Measure("size_mb", "", size)


def _latency(bundle: Bundle, held: Held) -> float | None:
    """Median milliseconds of one covered customer's score, after one that warms up."""
    rows = np.flatnonzero(held.views > 0)[:1]
    if not len(rows):
        return None
    table, sums, known = held.data.table.take(rows), held.sums[rows], held.data.known[rows]
    seconds = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        bundle.score(table, sums.astype(np.float64), known.astype(np.float64))
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds[1:]))
