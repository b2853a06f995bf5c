"""The label owner's extra files: true labels, and which partner knows which customer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import load, save

from fedprofile.errors import DataError
from fedprofile.files import replace_private
from fedprofile.node.home import NodeHome
from fedprofile.node.snapshot import held_table
from fedprofile.node.source import table_ids
from fedprofile.secagg.codes import remote
from fedprofile.types import Labels, Task, digest

_FILE, _MEMBERSHIP = "label_owner.safetensors", "membership.safetensors"


@dataclass(frozen=True)
class Membership:
    """known[party] (size,) bool by spine slot: what alignment tells the label owner (secure-sum 9.7)."""

    known: Mapping[str, npt.NDArray[np.bool_]] = field(repr=False)


def write_owner(home: Path, labels: Labels, fold: int) -> None:
    """``labels`` in the order of the owner's table; ``fold`` rotates the split into train, validation and test."""
    arrays = {f"label/{name}": values for name, values in labels.values.items()}
    metadata = {"fold": str(fold), "customers": _customers(labels.ids)}
    replace_private(home / _FILE, save(arrays, metadata=metadata))


def read_fold(home: NodeHome) -> int:
    with safe_open(home.path / _FILE, framework="np") as file:
        return int(file.metadata()["fold"])


def read_labels(home: NodeHome, tasks: tuple[Task, ...]) -> dict[str, npt.NDArray[np.int64]]:
    """True labels by task, in the order of the owner's table.

    Raises DataError where the table has other customers, or another order, than when labels were given.
    """
    with safe_open(home.path / _FILE, framework="np") as file:
        if file.metadata().get("customers") != _customers(table_ids(held_table(home))):
            what = "the labels were given to another table: its customers have changed since"
            raise DataError(_FILE, what, "Give them again: `fedprofile node labels HOME FILE`.")
        return {task.name: file.get_tensor(f"label/{task.name}") for task in tasks}


def _customers(ids: npt.NDArray[np.str_]) -> str:
    return digest("labelled/1", *(str(i).encode() for i in ids)).hex()


def write_membership(home: NodeHome, membership: Membership) -> None:
    """Into the run's state, where the run's own alignment found it."""
    home.write(_MEMBERSHIP, _encode(membership))


def read_membership(home: NodeHome) -> Membership:
    """Raises RemoteProtocolError("no_spine") before the run has aligned."""
    data = home.read(_MEMBERSHIP)
    if data is None:
        raise remote("no_spine", "nobody has claimed a customer yet")
    return Membership({party: known.astype(np.bool_) for party, known in load(data).items()})


def write_simulated_membership(home: NodeHome, membership: Membership) -> None:
    (home.path / _MEMBERSHIP).write_bytes(_encode(membership))


def adopt_simulated_membership(home: NodeHome) -> None:
    """Take what the simulation left in the home into the run's state."""
    home.write(_MEMBERSHIP, (home.path / _MEMBERSHIP).read_bytes())


def _encode(membership: Membership) -> bytes:
    return save({party: known.astype(np.uint8) for party, known in membership.known.items()})
