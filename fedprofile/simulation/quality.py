"""The data-quality figure of a simulated party: what ``node check`` would say of the table that it was given."""

from __future__ import annotations

from datetime import UTC, datetime

from fedprofile.data.contract_check import examine
from fedprofile.data.contract_file import shipped_contract, shipped_roles
from fedprofile.data.contract_quality import quality
from fedprofile.data.table_map import same_names
from fedprofile.types import Table


def table_quality(table: Table, role: str) -> float | None:
    """In [0, 1], under the contract that is shipped for the role; None where it names other columns, or there is none.

    Dates are in no table of a simulation, so freshness is left out.
    """
    if role not in shipped_roles():
        return None
    contract = shipped_contract(role)
    names = {column.name for column in contract.features}
    if names != set(table.columns):
        return None
    import polars as pl

    cells = {contract.id.name: table.ids.tolist(), **{name: v.tolist() for name, v in table.columns.items()}}
    frame, today = pl.DataFrame(cells, strict=False).fill_nan(None), datetime.now(UTC).date()
    examined = examine(frame, contract, same_names(contract, list(names)).readings, contract.id.name, role, today)
    return quality(examined, contract)["figure"]
