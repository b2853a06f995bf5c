"""Values that never change: since when every customer's value in a column has been what the snapshots before had."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from fedprofile.data.contract import Contract
from fedprofile.data.contract_check import Examined
from fedprofile.errors import DataError
from fedprofile.node.snapshot import TABLE

_ENOUGH = 100


def unchanged_since(
    home: Path, examined: Examined, contract: Contract, held: Mapping[str, str], today: date
) -> dict[str, date]:
    """For each column with ``changes_days``: the day from which on nobody's value has moved, today if one has.

    ``held`` is what the last snapshot knew of that. Customers whose value is missing in either table tell nothing;
    fewer than 100 others tell nothing either. A column that is stored encrypted is not compared.
    """
    import polars as pl

    since = {c.name: today for c in contract.columns if c.changes_days is not None}
    known = [name for name in since if name in held]
    if not known or not (home / TABLE).is_file():
        return since
    try:
        last = pl.read_parquet(home / TABLE, columns=["__id__", *known])
    except pl.exceptions.PolarsError:
        raise DataError(TABLE, "the last snapshot is damaged", "Remove it, and intake.json and profile.json.") from None
    kept = examined.frame.filter(examined.kept).with_columns(pl.Series("__id__", examined.ids[examined.kept].tolist()))
    both = kept.select("__id__", *known).join(last, on="__id__", suffix="/last")
    for name in known:
        if last[name].dtype == kept[name].dtype:
            pair = both.select(name, f"{name}/last").drop_nulls()
            if len(pair) >= _ENOUGH and (pair[name] == pair[f"{name}/last"]).all():
                since[name] = date.fromisoformat(held[name])
    return since


def frozen(since: Mapping[str, date], contract: Contract, today: date) -> frozenset[str]:
    """The columns that have stayed the same for everybody longer than the contract believes."""
    limits = {c.name: c.changes_days for c in contract.columns if c.changes_days is not None}
    return frozenset(name for name, day in since.items() if (today - day).days >= limits[name])
