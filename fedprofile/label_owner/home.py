"""The label owner's extra files: true labels, and which partner knows which customer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from fedprofile.node.home import NodeHome
from fedprofile.types import Labels, Task

_FILE = "label_owner.safetensors"


@dataclass(frozen=True)
class Membership:
    """known[party] (size,) bool by spine slot: what alignment tells the label owner (secure-sum 9.7)."""

    known: Mapping[str, npt.NDArray[np.bool_]] = field(repr=False)


def write_owner(home: Path, labels: Labels, membership: Membership, fold: int) -> None:
    """``labels`` in the order of the owner's table; ``fold`` rotates the split into train, validation and test."""
    arrays = {f"label/{name}": values for name, values in labels.values.items()}
    arrays |= {f"known/{party}": known.astype(np.int64) for party, known in membership.known.items()}
    save_file(arrays, home / _FILE, metadata={"fold": str(fold)})


def read_fold(home: NodeHome) -> int:
    with safe_open(home.path / _FILE, framework="np") as file:
        return int(file.metadata()["fold"])


def read_labels(home: NodeHome, tasks: tuple[Task, ...]) -> dict[str, npt.NDArray[np.int64]]:
    """True labels by task, in the order of the owner's table."""
    with safe_open(home.path / _FILE, framework="np") as file:
        return {task.name: file.get_tensor(f"label/{task.name}") for task in tasks}


def read_membership(home: NodeHome) -> Membership:
    with safe_open(home.path / _FILE, framework="np") as file:
        names = [k for k in file.keys() if k.startswith("known/")]  # noqa: SIM118 (safe_open is no mapping)
        return Membership({n.removeprefix("known/"): file.get_tensor(n).astype(np.bool_) for n in names})
