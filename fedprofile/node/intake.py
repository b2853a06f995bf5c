"""From a partner's own table to the frozen snapshot that runs read: source, map, contract, quarantine, limits.

In the home, written by people: ``source.yaml`` (where the table lies), ``map.yaml`` (how it is written) and
``contract.yaml`` (what the role agreed on). Written here, by ``freeze``::

    table.parquet      the kept rows, sorted by id, dates left out
    intake.json        counts, quality, drift, roots and the table's digest: nothing of a row
    profile.json       histograms of the snapshot, for drift next time; holds values, stays here (0600)
    quarantine.json    positions of quarantined rows by reason; stays here (0600)

This is the one place where rows are read without a permit, on the partner's own machine, to judge the table. Whatever
uses a row for a run reads the snapshot, through a permit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fedprofile.data.contract import Contract
from fedprofile.data.contract_check import Examined, examine, missing_shares, reason_counts
from fedprofile.data.contract_drift import Drift, Histogram, drift, from_json, histograms, to_json
from fedprofile.data.contract_file import FILE as CONTRACT
from fedprofile.data.contract_file import read_contract, shipped_text
from fedprofile.data.contract_quality import quality
from fedprofile.data.ids import check_ids
from fedprofile.data.readers.source_file import FILE as SOURCE
from fedprofile.data.readers.source_file import TableSource, read_raw, read_source, source_name
from fedprofile.data.table_map import FILE as MAP
from fedprofile.data.table_map import TableMap, read_map
from fedprofile.errors import DataError
from fedprofile.files import replace_private, replace_private_by
from fedprofile.node.home import NodeHome
from fedprofile.node.snapshot import RECORD, TABLE, table_sha256
from fedprofile.node.source import write_table
from fedprofile.node.unchanged import frozen, unchanged_since
from fedprofile.types import Table

PROFILE, QUARANTINE = "profile.json", "quarantine.json"


@dataclass(frozen=True)
class Stop:
    """A limit of the contract that the table breaks: a run on it must not start."""

    limit: str
    column: str
    value: float
    bound: float


@dataclass(frozen=True)
class Intake:
    """A table as it was read and judged; nothing is written yet."""

    contract: Contract
    map: TableMap
    source: str
    examined: Examined = field(repr=False)
    missing: Mapping[str, float]
    quality: Mapping[str, float | None]
    drift: Mapping[str, Drift]
    unchanged: Mapping[str, date]
    stops: tuple[Stop, ...]
    read_on: date

    def to_json(self) -> dict[str, Any]:
        """Counts and rates only: what intake.json and ``node check --json`` show."""
        kept = int(self.examined.kept.sum())
        columns = {
            c.name: {"type": c.type, "grade": c.grade, "class": c.sensitivity, "missing": _share(self.missing[c.name])}
            for c in self.contract.columns
        }
        contract = {"role": self.contract.role, "version": self.contract.version, "root": self.contract.root.hex()}
        return {
            "format": 1,
            "contract": contract,
            "map": self.map.root.hex(),
            "source": self.source,
            "read_on": self.read_on.isoformat(),
            "rows": {"read": len(self.examined), "kept": kept, "quarantined": len(self.examined) - kept},
            "quarantine": reason_counts(self.examined),
            "columns": columns,
            "quality": dict(self.quality),
            "drift": {name: {"psi": round(d.psi, 4), "noise": round(d.noise, 4)} for name, d in self.drift.items()},
            "unchanged_since": {n: d.isoformat() for n, d in self.unchanged.items() if d < self.read_on},
            "stops": [vars(s) for s in self.stops],
        }


def read_settings(home: Path) -> tuple[Contract, TableMap, TableSource]:
    """The three files of a home; DataError says which one is missing or wrong."""
    contract, source = home_contract(home), home_source(home)
    table_map = _there(home / MAP, "Draft it with `fedprofile node map HOME --suggest`.")
    return contract, read_map(table_map, contract), source


def home_contract(home: Path) -> Contract:
    mend = "Copy the one of the role: partners/<role>/contract.yaml, or write one."
    return read_contract(_there(home / CONTRACT, mend))


def give_contract(home: Path) -> None:
    """Copy the shipped contract of the node's role into a home that has none; UsageError where none is shipped."""
    if not (home / CONTRACT).is_file() and (home / "node.json").is_file():
        replace_private(home / CONTRACT, shipped_text(NodeHome(home).config.role).encode())


def home_source(home: Path) -> TableSource:
    return read_source(_there(home / SOURCE, "Write where the table lies: see partners/data.md."))


def _there(path: Path, mend: str) -> Path:
    if not path.is_file():
        raise DataError(path.name, "the file is missing", mend)
    return path


def look(home: Path, today: date | None = None) -> Intake:
    """Read and judge the table that a home names; writes nothing. Raises DataError where it cannot be read at all."""
    contract, table_map, source = read_settings(home)
    today = today or datetime.now(UTC).date()
    name = source_name(source)
    frame = read_raw(source, table_map.id, table_map.columns)
    examined = examine(frame, contract, table_map.readings, table_map.id, name, today)
    kept = examined.frame.filter(examined.kept)
    bins, held = _last_profile(home, contract)
    since = unchanged_since(home, examined, contract, held, today)
    missing, figure = missing_shares(examined), quality(examined, contract, frozen(since, contract, today))
    moved = drift(bins, kept)
    stops = _stops(examined, contract, missing, figure, moved)
    kind = type(source).__name__.removesuffix("Source").lower()
    return Intake(contract, table_map, kind, examined, missing, figure, moved, since, stops, today)


def freeze(
    home: Path,
    intake: Intake,
    accept_drift: bool = False,
    write: Callable[[Table, Path], object] = write_table,
) -> dict[str, Any]:
    """Make the judged table the snapshot of the home; the content of intake.json.

    ``accept_drift`` says that the change of the table is known and meant; ``write`` stores the table (encrypted, say).
    Raises DataError where a limit stops it: nothing is written, and the last snapshot stays. A crash half-way leaves
    a snapshot that ``held_table`` refuses.
    """
    stops = [s for s in intake.stops if not (accept_drift and s.limit == "drift")]
    if stops:
        what = f"{len(stops)} limits of the contract stop it ({', '.join(sorted({s.limit for s in stops}))})"
        raise DataError(
            CONTRACT, what, "`fedprofile node check HOME` shows them; mend the table, or agree on a new version."
        )
    table = intake.examined.table(intake.contract)
    # Row by row they passed; as a whole a column of ids may still be a mix of numbers and texts.
    check_ids(table.ids.tolist(), MAP, intake.map.id)
    replace_private_by(home / TABLE, lambda new: write(table, new))
    kept = intake.examined.frame.filter(intake.examined.kept)
    profile = {
        "contract": intake.contract.root.hex(),
        "columns": to_json(histograms(kept, intake.contract)),
        "unchanged_since": {name: day.isoformat() for name, day in intake.unchanged.items()},
    }
    replace_private(home / PROFILE, json.dumps(profile).encode())
    positions = {f"{r.code} {r.column}": np.flatnonzero(f).tolist() for r, f in intake.examined.reasons.items()}
    replace_private(home / QUARANTINE, json.dumps(positions).encode())
    held = {"sha256": table_sha256(home / TABLE), "categorical": list(intake.contract.categorical)}
    record = {**intake.to_json(), "accepted_drift": accept_drift, "table": held}
    replace_private(home / RECORD, json.dumps(record, indent=1).encode())
    return record


def _last_profile(home: Path, contract: Contract) -> tuple[dict[str, Histogram], dict[str, str]]:
    """Histograms of the last snapshot, and since when its columns had not changed.

    Both empty where there is no snapshot, or it was made under another contract.
    """
    try:
        held = json.loads((home / PROFILE).read_text())
        if held["contract"] != contract.root.hex():
            return {}, {}
        return from_json(held["columns"]), held["unchanged_since"]
    except FileNotFoundError:
        return {}, {}
    except (ValueError, KeyError, TypeError):
        raise DataError(PROFILE, "the file is damaged", "Remove it: drift is then not judged once.") from None


def _stops(
    examined: Examined,
    contract: Contract,
    missing: Mapping[str, float],
    figure: Mapping[str, float | None],
    moved: Mapping[str, Drift],
) -> tuple[Stop, ...]:
    limits, kept = contract.limits, examined.kept
    stops = []
    if (share := 1 - float(kept.mean())) > limits.quarantined:
        stops.append(Stop("quarantined", "", round(share, 4), limits.quarantined))
    if (rows := int(kept.sum())) < limits.min_rows:
        stops.append(Stop("min_rows", "", rows, limits.min_rows))
    if (value := figure["figure"] or 0.0) < limits.quality:
        stops.append(Stop("quality", "", value, limits.quality))
    for column in contract.columns:
        if kept.any() and missing[column.name] > column.missing:
            stops.append(Stop("missing", column.name, round(missing[column.name], 4), column.missing))
    stops += [Stop("drift", n, round(d.psi, 4), limits.drift) for n, d in moved.items() if d.over(limits.drift)]
    return tuple(stops)


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
