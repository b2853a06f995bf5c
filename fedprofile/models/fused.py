"""The fused model: what the bank keeps of its fusion with the partners' summed scores, and how it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.models.bank import BankModels, Probabilities
from fedprofile.models.blending import Blend
from fedprofile.models.linear import Linear, Scaler
from fedprofile.models.tabular_net import FittedNetwork
from fedprofile.models.trees import Trees
from fedprofile.types import Table, Task, Weights

Array = npt.NDArray[Any]

PARTS = ("linear", "trees", "network")


@dataclass(frozen=True)
class Inputs:
    """b and S (n, C), presence (n, R), and the bank's own feature code (n, d), for the same rows."""

    table: Table
    own: Array
    sums: Array
    known: Array
    code: npt.NDArray[np.float32]

    @property
    def linear(self) -> Array:
        return np.concatenate([self.own, self.sums, self.known], 1)

    @property
    def boosted(self) -> Array:
        """Trees cannot add two columns, hence the naive-Bayes log-odds b + S as one of its own."""
        return np.concatenate([self.own, self.sums, self.own + self.sums, self.known], 1)

    def network(self, own: Scaler, sums: Scaler) -> npt.NDArray[np.float32]:
        views = [own.apply(self.own), sums.apply(self.sums), self.known]
        return np.concatenate([self.code, *(v.astype(np.float32) for v in views)], 1)


@dataclass(frozen=True)
class FusedModel:
    """Per task a calibrated blend of up to three fusions, gated against bank alone, and routed by presence.

    used: task -> whether the fusion passed the gate. sums, known: widths C and R of the two inputs.
    """

    bank: BankModels
    sums: int
    known: int
    linear: Mapping[str, Linear]
    trees: Mapping[str, Trees]
    network: FittedNetwork | None
    own_scale: Scaler
    sums_scale: Scaler
    blends: Mapping[str, Blend]
    used: Mapping[str, bool]

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.bank.tasks

    def predict(self, table: Table, sums: Array | None = None, known: Array | None = None) -> Probabilities:
        """{task: (n, K)} float64 from the bank's columns, sums (n, C) and presence (n, R).

        A row that no role knows, and every row where sums and known are None, gets exactly the bank-alone score.
        Raises ValueError where one of the two is None or a shape is wrong.
        """
        out = self.bank.predict(table)
        if sums is None and known is None:
            return out
        if sums is None or known is None:
            raise ValueError("sums and known come together")
        if sums.shape != (len(table), self.sums) or known.shape != (len(table), self.known):
            raise ValueError(f"sums must be (n, {self.sums}) and known (n, {self.known}) for n = {len(table)}")
        covered = (known != 0).any(1)
        if covered.any():
            fused = self._blended(fusion_inputs(self.bank, table.take(covered), sums[covered], known[covered]))
            for task, p in fused.items():
                out[task][covered] = p
        return out

    def to_state(self) -> tuple[Weights, dict[str, Any]]:
        """Tensors named ``bank/...`` and ``fused/...``, and everything else as JSON values."""
        bank_weights, bank = self.bank.to_state()
        weights = {f"bank/{name}": w for name, w in bank_weights.items()}
        if self.network is not None:
            weights |= {f"fused/{name}": w for name, w in self.network.state().items()}
        return weights, {
            "bank": bank,
            "sums": self.sums,
            "known": self.known,
            "linear": {t: part.to_json() for t, part in self.linear.items()},
            "trees": {t: part.to_json() for t, part in self.trees.items()},
            "network": None if self.network is None else self.network.to_json(),
            "own_scale": self.own_scale.to_json(),
            "sums_scale": self.sums_scale.to_json(),
            "blends": {t: b.to_json() for t, b in self.blends.items()},
            "used": dict(self.used),
        }

    @staticmethod
    def from_state(weights: Weights, data: Mapping[str, Any]) -> FusedModel:
        network = data["network"]
        return FusedModel(
            bank=BankModels.from_state(_under(weights, "bank/"), data["bank"]),
            sums=data["sums"],
            known=data["known"],
            linear={t: Linear.from_json(d) for t, d in data["linear"].items()},
            trees={t: Trees.from_json(d) for t, d in data["trees"].items()},
            network=None if network is None else FittedNetwork.from_state(_under(weights, "fused/"), network),
            own_scale=Scaler.from_json(data["own_scale"]),
            sums_scale=Scaler.from_json(data["sums_scale"]),
            blends={t: Blend.from_json(b) for t, b in data["blends"].items()},
            used=dict(data["used"]),
        )

    def parts(self, inputs: Inputs) -> dict[str, list[Array]]:
        """task -> probabilities of its fusions in the order of PARTS."""
        found: dict[str, list[Array]] = {t.name: [] for t in self.tasks}
        for task, linear in self.linear.items():
            found[task].append(linear.predict(inputs.linear))
        for task, trees in self.trees.items():
            start = found[task][0] if self.linear else None
            found[task].append(trees.predict(inputs.table, inputs.boosted, start))
        if self.network is not None:
            for task, p in self.network.predict(inputs.network(self.own_scale, self.sums_scale)).items():
                found[task].append(p)
        return found

    def _blended(self, inputs: Inputs) -> Probabilities:
        parts = self.parts(inputs)
        return {task: self.blends[task].apply(parts[task]) for task, used in self.used.items() if used}


def fusion_inputs(
    bank: BankModels, table: Table, sums: Array, known: Array, train: npt.NDArray[np.bool_] | None = None
) -> Inputs:
    """Inputs of all rows; b is out of fold for rows of ``train``."""
    return Inputs(table, bank.log_odds(table, train), sums, known, bank.fitted.features.transform(table))


def _under(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
