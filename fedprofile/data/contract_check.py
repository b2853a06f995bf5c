"""A table against its contract: polars frame in, findings out. Findings are counts; no value of a row is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedprofile.data.columns import texts
from fedprofile.data.contract import Contract
from fedprofile.data.contract_cells import Reading, read_cells
from fedprofile.data.contract_rules import rule_expr
from fedprofile.data.ids import normalise_id
from fedprofile.types import Table

if TYPE_CHECKING:
    import polars as pl

Flags = npt.NDArray[np.bool_]
# What each reason says of a row; the parts of the quality figure are counted from these groups.
DUPLICATES = frozenset({"id_duplicate", "row_duplicate"})
STALE = frozenset({"stale", "in_future"})
IMPOSSIBLE = "impossible"
_MAX_ID = 64


@dataclass(frozen=True, order=True)
class Reason:
    """Why a row is quarantined: a fixed code and the column, or the rule, that it is about."""

    code: str
    column: str = ""


@dataclass(frozen=True)
class Examined:
    """A table as the contract sees it.

    ids: (n,) normalised, "" where missing. frame: the contract's columns, typed, null where missing or refused.
    reasons: reason -> (n,) bool. Positions are those of the rows that were read.
    """

    ids: npt.NDArray[np.str_] = field(repr=False)
    frame: pl.DataFrame = field(repr=False)
    reasons: Mapping[Reason, Flags] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def kept(self) -> Flags:
        """(n,) bool: rows without any reason."""
        return ~self.flagged(tuple(self.reasons))

    def flagged(self, reasons: Sequence[Reason]) -> Flags:
        """(n,) bool: rows with at least one of the reasons."""
        found = np.zeros(len(self.ids), dtype=np.bool_)
        for reason in reasons:
            found |= self.reasons[reason]
        return found

    def table(self, contract: Contract) -> Table:
        """The kept rows in the order of their ids, dates left out: equal for any order of the rows that were read."""
        rows = np.flatnonzero(self.kept)
        rows = rows[np.argsort(self.ids[rows], kind="stable")]
        columns: dict[str, npt.NDArray[np.float64 | np.object_]] = {}
        for column in contract.features:
            series = self.frame[column.name][rows]
            if column.type == "category":
                columns[column.name] = np.array(series.to_list(), dtype=object)
            else:
                columns[column.name] = series.fill_null(float("nan")).to_numpy()
        return Table(self.ids[rows], columns, frozenset(contract.categorical))


def examine(
    frame: pl.DataFrame,
    contract: Contract,
    readings: Mapping[str, Reading],
    id_column: str,
    file: str,
    today: date,
) -> Examined:
    """Every row of ``frame`` (the partner's columns, as they were read) against the contract.

    ``readings``: contract column -> how the partner writes it; a contract column without one is missing everywhere.
    Raises DataError for a column whose type can hold no such cells.
    """
    import polars as pl

    reasons: dict[Reason, Flags] = {}
    columns: dict[str, pl.Series] = {}
    empty = pl.Series(dtype=pl.String).extend_constant(None, len(frame))
    for column in contract.columns:
        how = readings.get(column.name)
        raw = empty if how is None else frame[how.column]
        columns[column.name], codes = read_cells(raw, column, how or Reading(""), file, today)
        for code in codes.drop_nulls().unique().sort():
            reasons[Reason(code, column.name)] = (codes == code).fill_null(False).to_numpy()
    typed = pl.DataFrame(columns)
    for rule in contract.rules:
        broken = typed.select(rule_expr(rule.parsed).fill_null(False)).to_series().to_numpy()
        if broken.any():
            reasons[Reason(IMPOSSIBLE, rule.name)] = broken
    ids, bad = _ids(texts(frame[id_column], file), contract)
    for code, flags in (bad | _doubled(ids, typed, list(reasons.values()))).items():
        if flags.any():
            reasons[Reason(code, contract.id.name)] = flags
    return Examined(ids, typed, reasons)


def _ids(raw: pl.Series, contract: Contract) -> tuple[npt.NDArray[np.str_], dict[str, Flags]]:
    import polars as pl

    # A numpy text is as wide as the longest: one giant id would make all of them so.
    cut = raw.str.slice(0, _MAX_ID + 1).to_list()
    known = ["" if i is None else normalise_id(i) for i in cut]
    too_long = np.array([len(i) > _MAX_ID for i in known], dtype=np.bool_)
    ids = np.array(["" if long else i for i, long in zip(known, too_long, strict=True)], dtype=np.str_)
    missing = (ids == "") & ~too_long
    bad = {"id_too_long": too_long, "id_missing": missing}
    if contract.id.pattern:
        fits = pl.Series(ids.tolist(), dtype=pl.String).str.contains(f"^(?:{contract.id.pattern})$").to_numpy()
        bad["id_format"] = ~fits & ~missing & ~too_long
    return ids, bad


def _doubled(ids: npt.NDArray[np.str_], typed: pl.DataFrame, refused: list[Flags]) -> dict[str, Flags]:
    """Rows that repeat a whole row, all but the first; and all rows of an id that is there with different content.

    Which of several different rows is the true one, nobody can tell: none is kept.
    """
    import polars as pl

    # A refused cell has no value any more, but its row is not the same as one whose cell is empty.
    bad = np.any(refused, axis=0) if refused else np.zeros(len(ids), dtype=np.bool_)
    whole = typed.with_columns(pl.Series("\0id", ids.tolist(), dtype=pl.String), pl.Series("\0bad", bad))
    named = ids != ""
    repeat = ~whole.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy() & named
    counts = whole.filter(~repeat)["\0id"].value_counts()
    several = set(counts.filter(pl.col("count") > 1)["\0id"]) - {""}
    return {"row_duplicate": repeat, "id_duplicate": np.isin(ids, sorted(several)) & named}


def missing_shares(examined: Examined) -> dict[str, float]:
    """Share of missing cells of each column among the kept rows; nan where no row is kept."""
    kept = examined.frame.filter(examined.kept)
    return {name: kept[name].null_count() / len(kept) if len(kept) else float("nan") for name in kept.columns}


def reason_counts(examined: Examined) -> list[dict[str, str | int]]:
    """[{code, column, rows}], the most frequent first; one row may have several reasons."""
    found = sorted(examined.reasons.items(), key=lambda item: (-int(item[1].sum()), item[0]))
    return [{"code": r.code, "column": r.column, "rows": int(flags.sum())} for r, flags in found]
