"""What the coordinator needs to go on after a crash: shared weights and how far the run came, in one atomic file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from fedprofile.errors import UsageError
from fedprofile.files import replace_private
from fedprofile.types import Weights, canonical

START = "start.safetensors"
_ARRAYS = frozenset({"shared", "encoders", "counts", "uploads", "suspended", "passed"})


@dataclass
class Checkpoint:
    """``t`` is the last opened round (0 = none yet); ``lost`` the last one that nodes agreed to and that did not open
    (0 in the strict profile); ``setups`` counts key agreements, so attempts never repeat.

    ``means`` are the opened mean gains a task, empty until then; ``late``: partners without whom they were opened and
    who have to judge their scores yet; ``spine_size`` is 0 until the run has aligned.
    ``passed`` (size,): of which slots of a union the label owner gets the score sum; None where there is no union.
    ``heads``: hexadecimal audit head of each party's last upload to a sum, opened or being opened, which the next round
    is bound to.
    ``uploads`` are the masked vectors of the last opened round, in wire order, by "update", "role/ROLE" and
    "stats/ROLE": what nodes recompute its sums from. ``suspended``: the resilient sums of one t that are being opened.
    """

    t: int = 0
    lost: int = 0
    setups: int = 0
    released: bool = False
    spine_size: int = 0
    spine_hash: str = ""
    passed: npt.NDArray[np.bool_] | None = field(default=None, repr=False)
    shared: Weights = field(default_factory=dict)
    encoders: dict[str, Weights] = field(default_factory=dict)
    counts: dict[str, dict[str, npt.NDArray[np.float64]]] = field(default_factory=dict)
    summaries: list[dict[str, float]] = field(default_factory=list)
    openings: list[dict[str, str | int]] = field(default_factory=list)
    means: dict[str, float] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=dict)
    wire: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    uploads: dict[str, tuple[bytes, ...]] = field(default_factory=dict, repr=False)
    suspended: tuple[bytes, ...] = field(default=(), repr=False)


class CheckpointStore:
    """One file, replaced as a whole and on disk after each opened sum: a repeated attempt would repeat masks."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoint.safetensors"

    def save(self, state: Checkpoint) -> None:
        arrays: dict[str, npt.NDArray[Any]] = {f"shared/{name}": value for name, value in state.shared.items()}
        for slot, uploads in state.uploads.items():  # all of one round have the same size
            arrays[f"upload/{slot}"] = np.stack([np.frombuffer(u, np.uint8) for u in uploads])
        arrays |= {f"suspended/{i:02}": np.frombuffer(held, np.uint8) for i, held in enumerate(state.suspended)}
        for role, weights in state.encoders.items():
            arrays |= {f"encoder/{role}/{name}": value for name, value in weights.items()}
        for role, counts in state.counts.items():
            arrays |= {f"count/{role}/{name}": value for name, value in counts.items()}
        plain = {k: v for k, v in vars(state).items() if k not in _ARRAYS}
        if state.passed is not None:
            arrays["passed"] = state.passed.astype(np.uint8)
        replace_private(self.path, save(arrays, metadata={"state": canonical(plain).decode()}))

    def begin_from(self, start: Weights) -> None:
        """Put trained weights, which the plan names, beside the job."""
        replace_private(self.path.with_name(START), save(start))

    def start(self) -> Weights:
        """The trained weights that the run begins from, where its plan names some. Raises UsageError for none."""
        path = self.path.with_name(START)
        if not path.is_file():
            raise UsageError(f"{START} is missing", "The plan begins from trained weights: put them beside the job.")
        return load(path.read_bytes())

    def load(self) -> Checkpoint:
        """The last saved state, or a fresh one. Raises UsageError for a damaged file."""
        if not self.path.exists():
            return Checkpoint()
        try:
            return self._read()
        except (SafetensorError, ValueError, KeyError, TypeError):
            mend = "Start the training anew: without it, the same masks could hide two different sums."
            raise UsageError(f"{self.path.name} is damaged", mend) from None

    def _read(self) -> Checkpoint:
        with safe_open(self.path, framework="np") as file:
            state = Checkpoint(**json.loads(file.metadata()["state"]))
            for key in sorted(file.keys()):
                kind, _, rest = key.partition("/")
                if kind == "passed":
                    state.passed = file.get_tensor(key).astype(np.bool_)
                    continue
                if kind == "shared":
                    state.shared[rest] = file.get_tensor(key)
                    continue
                if kind == "suspended":
                    state.suspended += (file.get_tensor(key).tobytes(),)
                    continue
                if kind == "upload":
                    state.uploads[rest] = tuple(row.tobytes() for row in file.get_tensor(key))
                    continue
                role, _, name = rest.partition("/")
                target = state.encoders if kind == "encoder" else state.counts
                target.setdefault(role, {})[name] = file.get_tensor(key)
        return state
