"""The frozen table of a home, and the proof that it is still the one that was checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fedprofile.errors import DataError
from fedprofile.node.home import NodeHome

TABLE, RECORD = "table.parquet", "intake.json"
_PINNED = "table.sha256"


def read_record(home: Path) -> dict[str, Any] | None:
    """What intake.json says, None where nothing is frozen yet."""
    try:
        record: dict[str, Any] = json.loads((home / RECORD).read_text())
        record["table"]["sha256"], record["rows"]["kept"], record["read_on"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise DataError(RECORD, "the file is damaged", "Remove it; `fedprofile node check HOME --freeze`.") from None
    return record


def contract_root(home: Path) -> str | None:
    """Of the contract under which the snapshot was checked, None where nothing is frozen (a simulated home)."""
    record = read_record(home)
    return None if record is None else str(record["contract"]["root"])


def quality_figure(home: Path) -> float | None:
    """The data-quality figure of the snapshot, None where none was measured (a simulated home)."""
    record = read_record(home)
    figure = None if record is None else record.get("quality", {}).get("figure")
    return None if figure is None else float(figure)


def held_table(home: NodeHome) -> Path:
    """The snapshot, after it was compared with intake.json and with what this run has read before.

    Raises DataError where it was changed underneath, or replaced in the middle of a run. A simulated home, which has
    no intake.json, gives its table as it is.
    """
    path, record = home.path / TABLE, read_record(home.path)
    if record is None:
        return path
    found = table_sha256(path)
    if found != record["table"]["sha256"]:
        what = "the snapshot is not the one that was checked"
        raise DataError(TABLE, what, "Find out who changed it; then `fedprofile node check HOME --freeze`.")
    pinned = home.read(_PINNED)
    if pinned is None:
        home.write(_PINNED, found.encode())
    elif pinned != found.encode():
        raise DataError(TABLE, "the snapshot was replaced while a run was under way", "Start the run again.")
    return path


def table_sha256(path: Path) -> str:
    """Hex digest of the snapshot's bytes; DataError where it is not there."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError:
        raise DataError(path.name, "the snapshot is missing", "Run `fedprofile node check HOME --freeze`.") from None
