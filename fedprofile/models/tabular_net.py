"""The bank's own network: TabM with eight members, all tasks together, one checkpoint a task (recipe 1.6.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedprofile.errors import TrainingDiverged
from fedprofile.models.blending import log_loss
from fedprofile.models.heads import corrected_loss, probabilities
from fedprofile.models.net import DropoutPool, NetShape, ProfileNet, initialise, load_weights, weights
from fedprofile.models.optimiser import AdamW, flatten
from fedprofile.types import Task, Weights

Array = npt.NDArray[Any]

SHAPE = NetShape(replicas=1, ensemble=8, hidden=96, profile=64, dropout=0.2)
LR, WARM_UP, DECAY, BATCH = 2e-3, 30, 0.01, 256
STEPS, MANY_STEPS, MANY_ROWS = 400, 1200, 12_000
JUDGE_EVERY, JUDGE_FROM, BETTER = 25, 100, 1e-5
CHUNK = 4096


@dataclass(frozen=True)
class FittedNetwork:
    """Weights of the steps that were best for some task. chosen: task -> step; kept: step -> tensors."""

    width: int
    tasks: tuple[Task, ...]
    shape: NetShape
    chosen: Mapping[str, int]
    kept: Mapping[int, Weights] = field(repr=False)

    def predict(self, x: npt.NDArray[np.float32]) -> dict[str, Array]:
        """x (n, width) -> {task: (n, K)} float64, mean over members."""
        found: dict[str, Array] = {}
        for step, net in self._nets.items():
            p = _predict(net, self.tasks, torch.from_numpy(x))
            found |= {task: p[task] for task, at in self.chosen.items() if at == step}
        return {task.name: found[task.name] for task in self.tasks}

    @cached_property
    def _nets(self) -> dict[int, ProfileNet]:
        nets = {}
        for step, values in self.kept.items():
            nets[step] = ProfileNet(self.width, sum(t.outputs for t in self.tasks), self.shape)
            load_weights(nets[step], values)
        return nets

    def state(self) -> Weights:
        """Tensors named ``<step>/<tensor>``."""
        return {f"{step}/{name}": w for step, values in self.kept.items() for name, w in values.items()}

    def to_json(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "tasks": [[t.name, t.kind, t.classes] for t in self.tasks],
            "shape": asdict(self.shape),
            "chosen": dict(self.chosen),
        }

    @staticmethod
    def from_state(state: Weights, data: Mapping[str, Any]) -> FittedNetwork:
        """Restore from ``state`` and ``to_json``."""
        kept: dict[int, Weights] = {step: {} for step in data["chosen"].values()}
        for name, value in state.items():
            step, _, tensor = name.partition("/")
            kept[int(step)][tensor] = value
        tasks = tuple(Task(*t) for t in data["tasks"])
        return FittedNetwork(data["width"], tasks, NetShape(**data["shape"]), dict(data["chosen"]), kept)


def fit_network(
    x: npt.NDArray[np.float32],
    labels: Mapping[str, Array],
    tasks: tuple[Task, ...],
    train: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_],
    seed: int,
    view_columns: int = 0,
    view_dropout: float = 0.15,
    steps: int | None = None,
) -> FittedNetwork:
    """AdamW with a warmed-up cosine for a fixed number of steps; each task keeps its best step on validation.

    x (n, d); labels task -> (n,) int64, -1 missing; the last ``view_columns`` of x are zeroed for a random share
    ``view_dropout`` of each batch. steps: 400, or 1200 above 12,000 training rows, unless given.
    Raises TrainingDiverged where a loss is not finite.
    """
    rows = np.flatnonzero(train)
    steps = steps or (MANY_STEPS if len(rows) > MANY_ROWS else STEPS)
    net = ProfileNet(x.shape[1], sum(t.outputs for t in tasks), SHAPE)
    initialise(net, seed, "tabular")
    generator = torch.Generator().manual_seed(seed)
    pool = DropoutPool(generator, SHAPE.dropout)
    optimiser = AdamW(*flatten(net), DECAY)
    inputs, targets = torch.from_numpy(x), {t.name: torch.from_numpy(labels[t.name]) for t in tasks}
    judge = _Judge(tasks, inputs[valid], {t.name: labels[t.name][valid] for t in tasks})
    batches = _batches(torch.from_numpy(rows), generator)
    for step in range(1, steps + 1):
        rate = LR * min(1, step / WARM_UP) * (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        at = next(batches)
        batch = _hide_views(inputs[at], view_columns, view_dropout, generator)
        loss = corrected_loss(net(batch[None], pool), {t: y[at][None] for t, y in targets.items()}, {}, tasks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step(rate)
        if step == steps or (step >= JUDGE_FROM and step % JUDGE_EVERY == 0):
            if not torch.isfinite(loss):
                raise TrainingDiverged("label owner", "tabular network", step)
            judge.look(net, step)
    return FittedNetwork(x.shape[1], tasks, SHAPE, judge.chosen, judge.kept)


class _Judge:
    """Keeps, per task, the step with the lowest validation log-loss, and only the weights still needed."""

    def __init__(self, tasks: tuple[Task, ...], x: Tensor, labels: Mapping[str, Array]) -> None:
        self.tasks, self.x, self.labels = tasks, x, labels
        self.best: dict[str, float] = {}
        self.chosen: dict[str, int] = {}
        self.kept: dict[int, Weights] = {}

    def look(self, net: ProfileNet, step: int) -> None:
        p = _predict(net, self.tasks, self.x)
        for task in self.tasks:
            loss = log_loss(self.labels[task.name], p[task.name])
            if task.name not in self.best or loss < self.best[task.name] - BETTER:
                self.best[task.name], self.chosen[task.name] = loss, step
        if step in self.chosen.values():
            self.kept[step] = weights(net)
        self.kept = {s: w for s, w in self.kept.items() if s in self.chosen.values()}


def _batches(rows: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    size, left = min(BATCH, len(rows)), rows[:0]
    while True:
        if len(left) < size:
            left = rows[torch.randperm(len(rows), generator=generator)]
        yield left[:size]
        left = left[size:]


def _hide_views(x: Tensor, columns: int, share: float, generator: torch.Generator) -> Tensor:
    if not columns or not share:
        return x
    hidden = torch.rand(len(x), generator=generator) < share
    x[hidden, -columns:] = 0
    return x


def _predict(net: ProfileNet, tasks: tuple[Task, ...], x: Tensor) -> dict[str, Array]:
    with torch.no_grad():
        parts = [probabilities(net(chunk[None], None), tasks) for chunk in x.split(CHUNK)]
    return {t.name: torch.cat([p[t.name][0] for p in parts]).double().numpy() for t in tasks}
