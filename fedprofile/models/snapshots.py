"""Which round's weights a node keeps, per task, by its own held-out loss, and what they say; nothing of it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedprofile.models import net as nets
from fedprofile.models.heads import Head, probabilities
from fedprofile.models.scores import centred_log_odds
from fedprofile.types import Task, Weights, output_slices

State = dict[str, npt.NDArray[np.generic]]
Floats = npt.NDArray[np.float32]
_BETTER, _CHUNK = 1e-5, 4096


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


def best_log_odds(
    net: nets.ProfileNet,
    kept: BestRounds,
    x: Tensor,
    tasks: tuple[Task, ...],
    head: Head,
    priors: Mapping[str, npt.NDArray[np.float64]],
    choose: Callable[[Floats], Floats] = lambda p: p.mean(0),
) -> Floats:
    """(n, C) centred cumulative log-odds of rows x (n, d) by each task's best snapshot; ``net`` ends with one of them.

    choose: probabilities of the replicas (F, n, K), member means -> (n, K).
    """
    out = np.empty((len(x), sum(t.outputs for t in tasks)), np.float32)
    for at, snapshot in kept.weights.items():
        nets.load_weights(net, snapshot)
        with torch.no_grad():
            chunks = [x[i : i + _CHUNK] for i in range(0, len(x), _CHUNK)]
            parts = [probabilities(net(chunk[None], None), tasks, head) for chunk in chunks]
        for task, columns in output_slices(tasks).items():
            if kept.best[task][1] == at:
                p = np.concatenate([part[task].numpy() for part in parts], 1)
                out[:, columns] = centred_log_odds(choose(p), priors[task])
    return out
