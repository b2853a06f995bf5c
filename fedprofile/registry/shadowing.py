"""A challenger that scores silently beside the champion: what it would have changed, in counts, never in customers.

::

    REGISTRY/shadow/CHAMPION-SHADOW.json    of every file that was scored: customers, changed decisions, two histograms

Both score the same way. The sums in a file are of the champion's own encoders, so a shadow with others is compared
bank alone. A file opens no sum, so none is counted against a year's openings.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedprofile.data.contract_drift import psi
from fedprofile.errors import DataError
from fedprofile.files import replace_private
from fedprofile.governance.gates import Measure
from fedprofile.registry.reference import ALONE, FUSED, level

if TYPE_CHECKING:
    from fedprofile.registry.bundle import Bundle

FOLDER, CELLS = "shadow", 20
NEVER = "it has not scored as the shadow of this champion"
Columns = Mapping[str, npt.NDArray[Any]]
Beside = dict[str, dict[str, dict[str, Any]]]
"""FUSED or ALONE -> task -> customers, changed (decisions), champion and shadow (CELLS counts over [0, 1])."""


def score_beside(champion: Bundle, shadow: Bundle, columns: Columns, others: Columns) -> Beside:
    """Both bundles' scores of the same n customers; columns, others: as either takes them (``score_columns``).

    Raises DataError as ``score_columns``, for a column that only the shadow needs.
    """
    from fedprofile.registry.holdout import same_encoders

    views = set(champion.view_columns)
    fused = views == set(shadow.view_columns) and views <= columns.keys() and same_encoders(champion, shadow)
    ours, theirs = (
        b.score_columns(c if fused else {k: v for k, v in c.items() if k not in b.view_columns})
        for b, c in ((champion, columns), (shadow, others))
    )
    tasks = [task for task in champion.tasks if task in shadow.tasks]
    return {
        FUSED if fused else ALONE: {
            task.name: {
                "customers": len(ours[task.name]),
                "changed": int(
                    (champion.decide(task, ours[task.name]) != shadow.decide(task, theirs[task.name])).sum()
                ),
                "champion": _cells(level(task, ours[task.name]) / (task.classes - 1)),
                "shadow": _cells(level(task, theirs[task.name]) / (task.classes - 1)),
            }
            for task in tasks
        }
    }


def _cells(values: npt.NDArray[np.float64]) -> list[int]:
    counts: list[int] = np.histogram(values, CELLS, (0.0, 1.0))[0].tolist()
    return counts


def remember(registry: Path, champion: str, shadow: str, found: Beside) -> None:
    """Add to what earlier files said of these two manifests. Raises DataError for a damaged file."""
    place = registry / FOLDER
    place.mkdir(exist_ok=True, mode=0o700)
    with open(place / "lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        total = recall(registry, champion, shadow)
        for kind, tasks in found.items():
            for task, new in tasks.items():
                old = total.setdefault(kind, {}).get(task)
                total[kind][task] = new if old is None else {name: _add(old[name], new[name]) for name in new}
        replace_private(_file(registry, champion, shadow), json.dumps(total, indent=1).encode())


def recall(registry: Path, champion: str, shadow: str) -> Beside:
    """Everything so far; empty where it has scored nothing. Raises DataError for a damaged file."""
    file = _file(registry, champion, shadow)
    try:
        found: Beside = json.loads(file.read_text()) if file.exists() else {}
        for kind, tasks in found.items():
            for seen in tasks.values():
                sizes = [seen["customers"], sum(seen["champion"]), sum(seen["shadow"])]
                if kind not in (FUSED, ALONE) or len(set(sizes)) != 1 or not 0 <= seen["changed"] <= sizes[0]:
                    raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(file.name, "not what a shadow's scoring left", "Remove it: the shadow begins anew.") from None
    return found


def shadow_measures(found: Beside, smallest: int) -> Iterator[Measure]:
    """For the gates: the share of customers whose decision would change, and the PSI of the two models' scores."""
    for kind, tasks in sorted(found.items()):
        for task, seen in tasks.items():
            subject, n = f"{task}, {kind}", seen["customers"]
            if n < smallest:
                note = f"{n} customers scored, {smallest} are needed"
                yield from (Measure(gate, subject, None, count=n, note=note) for gate in _GATES)
                continue
            used = [(a, b) for a, b in zip(seen["champion"], seen["shadow"], strict=True) if a or b]
            yield Measure("shadow_changed", subject, seen["changed"] / n, count=n)
            yield Measure("shadow_psi", subject, psi([a for a, _ in used], [b for _, b in used]), count=n)
    if not found:
        yield from (Measure(gate, "", None, note=NEVER) for gate in _GATES)


_GATES = ("shadow_changed", "shadow_psi")


def _add(old: Any, new: Any) -> Any:
    return [a + b for a, b in zip(old, new, strict=True)] if isinstance(new, list) else old + new


def _file(registry: Path, champion: str, shadow: str) -> Path:
    return registry / FOLDER / f"{champion[:16]}-{shadow[:16]}.json"
