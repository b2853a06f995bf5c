"""Endless shuffled passes over the rows of each replica, resumable to the bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

State = dict[str, npt.NDArray[np.generic]]


def generator_state(generator: torch.Generator) -> npt.NDArray[np.uint8]:
    state: npt.NDArray[np.uint8] = generator.get_state().numpy()
    return state


def restore_generator(generator: torch.Generator, state: npt.NDArray[np.generic]) -> None:
    generator.set_state(torch.tensor(np.asarray(state, np.uint8)))


class Batches:
    """rows[f]: (n_f,) int64 positions that replica f may see. size: rows in a batch. All draws by ``generator``."""

    def __init__(self, rows: Sequence[npt.NDArray[np.int64]], size: int, generator: torch.Generator) -> None:
        self.generator, self.size = generator, size
        self._rows = [torch.from_numpy(np.ascontiguousarray(r)) for r in rows]
        self._queues = [r[:0] for r in self._rows]

    def draw(self) -> Tensor:
        """(F, size) int64 positions; a pass ends inside a batch and the next begins there."""
        out = []
        for f, rows in enumerate(self._rows):
            while len(self._queues[f]) < self.size:
                order = torch.randperm(len(rows), generator=self.generator)
                self._queues[f] = torch.cat([self._queues[f], rows[order]])
            out.append(self._queues[f][: self.size])
            self._queues[f] = self._queues[f][self.size :]
        return torch.stack(out)

    def state(self) -> State:
        """What is left of each replica's pass, and the generator."""
        out: State = {f"queue/{f}": q.numpy().astype(np.int32) for f, q in enumerate(self._queues)}
        return out | {"generator/batches": generator_state(self.generator)}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        queues = [np.asarray(state[f"queue/{f}"], np.int64) for f in range(len(self._rows))]
        self._queues = [torch.tensor(q) for q in queues]
        restore_generator(self.generator, state["generator/batches"])
