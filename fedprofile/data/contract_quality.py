"""Fake and stale records, scored: one data-quality figure in [0, 1], the product of parts that each lie in [0, 1].

``validity``      share of rows without an ill-written, unknown or out-of-range cell, or a bad id
``consistency``   share of rows that break no rule
``uniqueness``    share of rows that repeat neither an id nor, under another id, a whole record
``freshness``     share of rows whose dates are neither in the future nor older than the contract allows
``completeness``  mean over columns of min(1, (1 - missing) / (1 - allowed)), among kept rows
``variation``     share of columns that hold more than one value, among kept rows, and have not been the same for
                  everybody longer than ``changes_days``
``digits``        1 - the largest excess of Myers' index over columns with ``even_digits``

A part that the table gives no means to judge (no date column, too few rows) is None and left out of the product.
The figure reads as the share of the table that survives every doubt, if doubts strike independently.

Copied records: a row counts as a copy if another row has equal values in every *fine* column (a number column with
more than 50 distinct values), at least 5 of them known. In NHANES 23 of 4,562 people share all of 3, nobody shares 5.
Digits: Myers (1940) as the sum over last digits of |share - 1/10| / 2 (0 even, 0.9 one digit only), over whole values
from 10 on that are not at an end of the column's range, less 2 / sqrt(n), which even digits of n values exceed about
once in 400 tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np

from fedprofile.data.contract import Contract
from fedprofile.data.contract_check import DUPLICATES, IMPOSSIBLE, STALE, Examined, Flags, missing_shares

if TYPE_CHECKING:
    import polars as pl

PARTS = ("validity", "consistency", "uniqueness", "freshness", "completeness", "variation", "digits")
_ENOUGH = 100
_FINE = 50
_ALIKE = 5


def quality(examined: Examined, contract: Contract, frozen: Collection[str] = ()) -> dict[str, float | None]:
    """``figure`` and its PARTS, rounded to 4 digits; the figure of an empty table is 0.

    ``frozen`` are columns of which earlier snapshots say that they no longer move.
    """
    if not len(examined):
        return {"figure": 0.0, **dict.fromkeys(PARTS)}
    kept = examined.frame.filter(examined.kept)
    parts: dict[str, float | None] = {
        "validity": _clean(examined, lambda code: code not in DUPLICATES | STALE | {IMPOSSIBLE}),
        "consistency": _clean(examined, lambda code: code == IMPOSSIBLE) if contract.rules else None,
        "uniqueness": _unique(examined, contract),
        "freshness": _fresh(examined, contract),
        "completeness": _complete(examined, contract),
        "variation": _variation(kept, contract, frozen),
        "digits": _digits(kept, contract),
    }
    judged = [p for p in parts.values() if p is not None]
    return {"figure": round(math.prod(judged), 4)} | {k: None if v is None else round(v, 4) for k, v in parts.items()}


def _clean(examined: Examined, about: Callable[[str], bool]) -> float:
    flags = examined.flagged([r for r in examined.reasons if about(r.code)])
    return 1 - float(flags.mean())


def _unique(examined: Examined, contract: Contract) -> float:
    doubled = examined.flagged([r for r in examined.reasons if r.code in DUPLICATES])
    return 1 - float((doubled | copies(examined, contract)).mean())


def copies(examined: Examined, contract: Contract) -> Flags:
    """(n,) bool: rows, all but the first, that repeat the record of another id."""
    import polars as pl

    numbers = [c.name for c in contract.features if c.numeric]
    fine = [n for n in numbers if examined.frame[n].n_unique() > _FINE]
    if len(fine) < _ALIKE:
        return np.zeros(len(examined), dtype=np.bool_)
    frame = examined.frame.select(fine)
    # A row that repeats an id with all its content is counted as that, once.
    known = frame.select(pl.sum_horizontal(pl.all().is_not_null())).to_series() >= _ALIKE
    repeat = ~frame.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    return np.asarray((known & repeat).to_numpy(), dtype=np.bool_)


def _fresh(examined: Examined, contract: Contract) -> float | None:
    dates = [c.name for c in contract.columns if c.type == "date"]
    dated = np.zeros(len(examined), dtype=np.bool_)
    for name in dates:
        dated |= examined.frame[name].is_not_null().to_numpy()
    old = examined.flagged([r for r in examined.reasons if r.code in STALE])
    judged = dated | old
    return 1 - float(old[judged].mean()) if judged.any() else None


def _complete(examined: Examined, contract: Contract) -> float | None:
    if not examined.kept.any():
        return None
    allowed = {c.name: c.missing for c in contract.columns}
    shares = [(m, allowed[name]) for name, m in missing_shares(examined).items()]
    return float(np.mean([1.0 if a == 1 else min(1.0, (1 - m) / (1 - a)) for m, a in shares]))


def _variation(kept: pl.DataFrame, contract: Contract, frozen: Collection[str]) -> float | None:
    known = [kept[c.name].drop_nulls() for c in contract.features]
    moves = [k.n_unique() > 1 and k.name not in frozen for k in known if len(k) >= _ENOUGH]
    return float(np.mean(moves)) if moves else None


def _digits(kept: pl.DataFrame, contract: Contract) -> float | None:
    excesses = []
    for column in contract.features:
        if not column.even_digits:
            continue
        values = kept[column.name].drop_nulls().to_numpy()
        ends = [e for e in (column.low, column.high) if e is not None]
        values = values[(values >= 10) & (values == np.floor(values)) & ~np.isin(values, ends)]
        if len(values) >= _ENOUGH:
            shares = np.bincount((values % 10).astype(np.int64), minlength=10) / len(values)
            excesses.append(max(0.0, float(np.abs(shares - 0.1).sum()) / 2 - 2 / math.sqrt(len(values))))
    return 1 - max(excesses) if excesses else None
