"""Models and probabilities that do not depend on a run's own rounds, kept by data, split and seed for the next run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fedprofile.label_owner.evaluate import Probabilities
from fedprofile.models.bank import BankModels
from fedprofile.types import Weights, canonical

_FORMAT = 5
"""Raise it when anything that makes a cached value changes."""


@dataclass(frozen=True)
class Cache:
    """A folder of safetensors files named by the hash of their key; safe for runs side by side."""

    folder: Path

    def probabilities(
        self, key: list[object], make: Callable[[], dict[str, Probabilities]]
    ) -> dict[str, Probabilities]:
        """{name: {task: (n, K)}}, made if it is not there."""
        file = self._file(["probabilities", *key])
        if not file.exists():
            _store(file, {f"{name}/{task}": p for name, by in make().items() for task, p in by.items()})
        out: dict[str, Probabilities] = {}
        for name_task, p in load_file(file).items():
            name, _, task = name_task.partition("/")
            out.setdefault(name, {})[task] = p
        return out

    def bank(self, key: list[object], make: Callable[[], BankModels]) -> BankModels:
        """The bank's own models, made if they are not there."""
        file = self._file(["bank", *key])
        if not file.exists():
            weights, body = make().to_state()
            _store(file, weights, {"body": canonical(body).decode()})
        with safe_open(file, framework="np") as stored:
            kept: Weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return BankModels.from_state(kept, json.loads(stored.metadata()["body"]))

    def _file(self, key: list[object]) -> Path:
        return self.folder / (hashlib.sha256(canonical([_FORMAT, *key])).hexdigest() + ".safetensors")


def _store(file: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, temporary, metadata=metadata)
    temporary.replace(file)
