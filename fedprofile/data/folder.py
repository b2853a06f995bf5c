"""The federation folder: federation.yaml, one table a party, the label owner's labels."""

from __future__ import annotations

from pathlib import Path

from fedprofile.data.assemble import check_overlap, check_units, drop_unknown, labels_from_frame
from fedprofile.data.columns import Checked, table_from_frame
from fedprofile.data.federation import Federation, make_federation
from fedprofile.data.reading import read_frame
from fedprofile.data.spec import FILE, Spec, read_spec
from fedprofile.errors import ConfigError


def load_federation(root: str | Path | None) -> Federation:
    """A federation folder, checked as a whole.

    Tables are CSV, CSV.gz or Parquet, rows in any order, each with its own subset of customers. What is dropped
    (all-missing and constant columns, partners' customers without any value) is in ``warnings``. Raises DataError
    naming file, column, count and mend, never a value.
    """
    if root is None:
        raise ConfigError("data.root", "a federation folder is needed", "Add data.root=DIR.")
    root = Path(root)
    spec = read_spec(root)
    owner_first = sorted(spec.parties, key=lambda party: party != spec.label_owner)
    checked = {party: load_table(root, spec, party) for party in owner_first}
    tables = {party: c.table for party, c in checked.items()}
    files = {party: spec.parties[party].table for party in owner_first}
    check_overlap(tables, files, spec.label_owner)
    check_units(spec.units, {p: (*c.table.columns, *c.dropped) for p, c in checked.items()}, FILE)
    frame = read_frame(root, spec.labels, spec.id_column)
    labels, tasks, ignored = labels_from_frame(frame, spec.labels, spec.id_column, spec.tasks, tables[spec.label_owner])
    warnings = [w for c in checked.values() for w in c.warnings] + list(ignored)
    unused = [key for key in ("groups", "time", "weight") if getattr(spec, key)]
    warnings += [f"{FILE}: `{key}` is read but not used yet; its columns stay features" for key in unused]
    for party, table in tables.items():
        held = [t for t in spec.tasks if t in table.columns]
        warnings += [f"{files[party]}, column {t!r}: has the name of a task; make sure it is no label" for t in held]
    return make_federation(
        spec.name,
        spec.id_column,
        spec.label_owner,
        tasks,
        tables,
        labels,
        spec.groups,
        spec.time,
        spec.weight,
        spec.units,
        tuple(warnings),
    )


def load_table(root: Path, spec: Spec, party: str) -> Checked:
    """One party's table of a folder and the warnings about it; all that a node of that party needs to read."""
    entry = spec.parties[party]
    owner = party == spec.label_owner
    frame = read_frame(root, entry.table, spec.id_column)
    kept, time = (spec.kept, spec.time) if owner else ((), None)
    checked = table_from_frame(frame, entry.table, spec.id_column, entry.categorical, kept, time)
    return checked if owner else drop_unknown(checked, entry.table)
