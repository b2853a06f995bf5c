"""Which round's weights a node keeps, per task, by its own held-out loss; nothing about it is ever sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from fedprofile.types import Weights

State = dict[str, npt.NDArray[np.generic]]
_BETTER = 1e-5


class BestRounds:
    """Per task the lowest loss and its round; the weights of each such round are held once."""

    def __init__(self, tasks: tuple[str, ...]) -> None:
        self.tasks = tasks
        self.best: dict[str, tuple[float, int]] = {}
        self.weights: dict[int, Weights] = {}

    def offer(self, t: int, losses: Mapping[str, float], weights: Callable[[], Weights]) -> None:
        """Keep round t for every task whose loss falls by more than 1e-5; ``weights`` is called only then."""
        better = [n for n in self.tasks if n not in self.best or losses[n] < self.best[n][0] - _BETTER]
        if not better:
            return
        self.weights[t] = weights()
        self.best |= {n: (losses[n], t) for n in better}
        kept = {at for _, at in self.best.values()}
        self.weights = {at: w for at, w in self.weights.items() if at in kept}

    def state(self) -> State:
        out: State = {f"snapshot/{at}/{n}": v for at, w in self.weights.items() for n, v in w.items()}
        for name, (loss, at) in self.best.items():
            out[f"best/{name}"] = np.array([loss, at], np.float64)
        return out

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.best = {n: (float(b[0]), int(b[1])) for n in self.tasks if (b := state.get(f"best/{n}")) is not None}
        self.weights = {}
        for key, value in state.items():
            kind, _, rest = key.partition("/")
            if kind == "snapshot":
                at, _, name = rest.partition("/")
                self.weights.setdefault(int(at), {})[name] = np.array(value, np.float32)
