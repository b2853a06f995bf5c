"""Real data from installed packages: columns, times and labels as in ``specs/*.json``, no download."""

from __future__ import annotations

import bz2
import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.data.assemble import check_overlap, drop_unknown, labels_from_frame
from fedprofile.data.columns import table_from_frame
from fedprofile.data.federation import Federation, make_federation
from fedprofile.data.reading import read_bytes, tidy
from fedprofile.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl

_TIME = r"^b?'?([01]\d|2[0-3]):([0-5]\d)'?$"
_DAY = 24 * 60


def nhanes(root: str | Path | None = None) -> Federation:
    """US health survey 2017-2018: 4,562 adults; bank, ecommerce, medical, tax; income tier and uninsured.

    Bed and wake times are minutes after noon, so that a night is not torn apart at midnight.
    """
    import polars as pl

    spec, path = _open("nhanes", root)
    ratio, insured, age = (pl.col(c) for c in (*spec["label_columns"], "AgeInYearsAtScreening"))
    wanted = {spec["id"], *spec["label_columns"], *(c for columns in spec["parties"].values() for c in columns)}
    frame = tidy(pl.read_csv(path, separator="\t", columns=sorted(wanted), infer_schema=False, quote_char=None))
    numeric = [*spec["label_columns"], "AgeInYearsAtScreening"]
    frame = frame.with_columns(pl.col(numeric).cast(pl.Float64), *(_minutes(c) for c in spec["times"]))
    frame = frame.filter((age >= 20) & ratio.is_not_null() & insured.is_not_null())
    tier = (ratio >= spec["tier_cuts"][0]).cast(pl.Int64) + (ratio >= spec["tier_cuts"][1]).cast(pl.Int64)
    return _federate(frame.with_columns(tier=tier, uninsured=(insured == 0).cast(pl.Int64)), spec)


def k401(root: str | Path | None = None) -> Federation:
    """US households of 1991 (401ksubs): 9,275; bank, tax, employer; tier of financial wealth and IRA."""
    import polars as pl

    spec, path = _open("k401", root)
    frame = pl.read_csv(bz2.decompress(read_bytes(path, path.name)))
    wealth = pl.col("nettfa")
    tier = (wealth >= spec["tier_cuts"][0]).cast(pl.Int64) + (wealth >= spec["tier_cuts"][1]).cast(pl.Int64)
    return _federate(frame.with_row_index(spec["id"]).with_columns(tier=tier, ira=pl.col("pira")), spec)


def _open(name: str, root: str | Path | None) -> tuple[dict[str, Any], Path]:
    if root is not None:
        raise ConfigError("data.root", f"the source {name!r} reads a package, not a folder", "Leave data.root out.")
    spec = json.loads(resources.files("fedprofile.data").joinpath(f"specs/{name}.json").read_text("utf-8"))
    package, version = spec["package"], spec["version"]
    mend = f"Install it: pip install {package}=={version}"
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(package, "the package is not installed", mend) from None
    if found != version:
        raise DataError(package, f"version {found} is installed, {version} is needed", mend)
    # Found, not imported: importing some of them takes longer than reading the data.
    where = importlib.util.find_spec(package)
    if where is None or not where.submodule_search_locations:
        raise DataError(package, "the package holds no data", mend)
    path = Path(where.submodule_search_locations[0]) / spec["file"]
    if not path.is_file():
        raise DataError(package, f"the package lacks the file {spec['file']}", mend)
    return spec, path


def _minutes(column: str) -> pl.Expr:
    import polars as pl

    # Anything but a time of day is a code for refused (77777) or not known (99999): missing.
    parts = [pl.col(column).str.extract(_TIME, group).cast(pl.Int64) for group in (1, 2)]
    return ((parts[0] * 60 + parts[1] - _DAY // 2) % _DAY).alias(column)


def _federate(frame: pl.DataFrame, spec: Mapping[str, Any]) -> Federation:
    name, id_column, owner = spec["name"], spec["id"], spec["label_owner"]
    checked = {}
    for party, columns in spec["parties"].items():
        categorical = [c for c in columns if c in spec["categorical"]]
        checked[party] = table_from_frame(frame.select(id_column, *columns), f"{name}/{party}", id_column, categorical)
        if party != owner:
            checked[party] = drop_unknown(checked[party], f"{name}/{party}")
    tables = {party: c.table for party, c in checked.items()}
    check_overlap(tables, {party: f"{name}/{party}" for party in tables}, owner)
    asked = frame.select(id_column, *spec["tasks"])
    labels, tasks, _ = labels_from_frame(asked, f"{name}/labels", id_column, spec["tasks"], tables[owner])
    warnings = tuple(w for c in checked.values() for w in c.warnings)
    groups = tuple(spec.get("groups", ()))
    return make_federation(
        name, id_column, owner, tasks, tables, labels, groups=groups, units=spec["units"], warnings=warnings
    )
