"""The bare loop: the arithmetic of a federated training and nothing else, as one would write it with torch alone.

Four networks in one process; plain averaging of trunk and heads after each round; replicas as batched matrix
products; ``torch.optim.AdamW(fused=True)``; held-out judging; every row scored once. No Flower, masks, files or logs.

``plain`` uses torch's own dropout and a list of parameters. ``lean``, the one that counts, is the fastest that we
know how to write: dropout masks cut from a pool, one flat parameter vector, each replica judged on its fold only.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, logsigmoid

from fedprofile.types import LearningPlan, Task

WARM_UP = 30
POOL = 1 << 20


@dataclass(frozen=True)
class NodeData:
    """One node in memory: x (n,d) float32, labels[task] (n,) with -1 unknown, fold (n,), train (n,) bool."""

    x: npt.NDArray[np.float32] = field(repr=False)
    labels: dict[str, npt.NDArray[np.int64]] = field(repr=False)
    flips: dict[str, npt.NDArray[np.float32]] = field(repr=False)
    fold: npt.NDArray[np.int64] = field(repr=False)
    train: npt.NDArray[np.bool_] = field(repr=False)


class Net(nn.Module):
    """F replicas of d -> hidden -> profile -> hidden -> C."""

    def __init__(self, width: int, outputs: int, plan: LearningPlan, generator: torch.Generator, lean: bool) -> None:
        super().__init__()
        self.p, self.generator, self.pool = plan.dropout, generator, torch.empty(0)
        if lean:
            self.pool = (torch.rand(POOL, generator=generator) >= self.p).float() / (1 - self.p)
        sizes = (("enc1", width, plan.hidden), ("enc2", plan.hidden, plan.profile))
        sizes += (("trunk1", plan.profile, plan.hidden), ("head", plan.hidden, outputs))
        for name, i, o in sizes:
            for kind, shape in (("w", (plan.replicas, i, o)), ("b", (plan.replicas, 1, o))):
                value = (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(i)
                self.register_parameter(f"{name}_{kind}", nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        """x (F,B,d) -> logits (F,B,C)."""
        h = self.activate(torch.baddbmm(self.enc1_b, x, self.enc1_w))
        z = self.activate(torch.baddbmm(self.enc2_b, h, self.enc2_w))
        h = self.activate(torch.baddbmm(self.trunk1_b, z, self.trunk1_w))
        return torch.baddbmm(self.head_b, h, self.head_w)

    def activate(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        if not self.training or not len(self.pool):
            return dropout(x, self.p, self.training)
        at = int(torch.randint(POOL - x.numel() + 1, (1,), generator=self.generator))
        return x * self.pool[at : at + x.numel()].view(x.shape)

    def flat(self) -> nn.Parameter:
        """All parameters, and their gradients, as views of one vector."""
        own = list(self.parameters())
        whole = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in own]))
        whole.grad, at = torch.zeros_like(whole), 0
        for p in own:
            p.data = whole.data[at : at + p.numel()].view(p.shape)
            p.grad = whole.grad[at : at + p.numel()].view(p.shape)
            at += p.numel()
        return whole


def class_log_probabilities(logits: Tensor, tasks: Sequence[Task]) -> list[Tensor]:
    """Continuation ratio, a task at a time: (..., C) -> [(..., K)]."""
    up = logsigmoid(logits)
    down, out, at = up - logits, [], 0
    for task in tasks:
        above, stop = up[..., at : at + task.outputs].cumsum(-1), down[..., at : at + task.outputs]
        if task.outputs > 1:
            stop = torch.cat([stop[..., :1], stop[..., 1:] + above[..., :-1]], -1)
        out.append(torch.cat([stop, above[..., -1:]], -1))
        at += task.outputs
    return out


class Trainer:
    """One node of the bare loop."""

    def __init__(self, data: NodeData, tasks: Sequence[Task], plan: LearningPlan, seed: int, lean: bool) -> None:
        self.tasks, self.plan = tasks, plan
        self.generator = torch.Generator().manual_seed(seed)
        self.x = torch.from_numpy(data.x)
        weights = [
            torch.from_numpy(data.flips[t.name]).T[torch.from_numpy(data.labels[t.name]).clamp(0)] for t in tasks
        ]
        self.weights = torch.cat(weights, -1)  # (n, K1+K2+...): P(released | true class)
        self.known = torch.stack([torch.from_numpy(data.labels[t.name] >= 0) for t in tasks], -1).float()
        self.all_known = bool(self.known[torch.from_numpy(data.train)].all())
        self.net = Net(data.x.shape[1], sum(t.outputs for t in tasks), plan, self.generator, lean)
        parameters = [self.net.flat()] if lean else list(self.net.parameters())
        self.optimiser = torch.optim.AdamW(parameters, plan.lr, weight_decay=plan.weight_decay, fused=True)
        self.lean = lean
        rows = np.flatnonzero(data.train)
        self.seen = [torch.from_numpy(rows[data.fold[rows] != f]) for f in range(plan.replicas)]
        held = [torch.from_numpy(rows[data.fold[rows] == f]) for f in range(plan.replicas)]
        self.held = torch.zeros((plan.replicas, max(map(len, held))), dtype=torch.long)
        self.is_held = torch.zeros(self.held.shape)
        for f, own in enumerate(held):
            self.held[f, : len(own)], self.is_held[f, : len(own)] = own, 1
        self.size = max(1, min(plan.batch, len(rows) // 2))
        self.queue = [s[:0] for s in self.seen]
        self.best = [math.inf] * len(tasks)
        self.kept: list[dict[str, Tensor]] = [{}] * len(tasks)

    def draw(self) -> Tensor:
        for f, rows in enumerate(self.seen):
            if len(self.queue[f]) < self.size:
                order = rows[torch.randperm(len(rows), generator=self.generator)]
                self.queue[f] = torch.cat([self.queue[f], order])
        batch = torch.stack([q[: self.size] for q in self.queue])
        self.queue = [q[self.size :] for q in self.queue]
        return batch

    def losses(self, logits: Tensor, at: Tensor, mask: Tensor | None = None) -> Tensor:
        """(T,) mean corrected negative log-likelihood of known labels."""
        weights = self.weights[at]
        known = self.known[at] if mask is None else self.known[at] * mask[..., None]
        out, start = [], 0
        for i, log_p in enumerate(class_log_probabilities(logits, self.tasks)):
            likelihood = (log_p.exp() * weights[..., start : start + log_p.shape[-1]]).sum(-1)
            start += log_p.shape[-1]
            if mask is None and self.all_known:
                out.append(-(likelihood + 1e-7).log().mean())
            else:
                out.append(-((likelihood + 1e-7).log() * known[..., i]).sum() / known[..., i].sum().clamp(1))
        return torch.stack(out)

    def train_round(self, t: int) -> Tensor:
        total, steps = torch.zeros(len(self.tasks)), self.plan.steps
        for i in range((t - 1) * steps, t * steps):
            warm = min(1, (i + 1) / WARM_UP)
            self.optimiser.param_groups[0]["lr"] = (
                self.plan.lr * warm * (1 + math.cos(math.pi * i / (self.plan.rounds * steps))) / 2
            )
            at = self.draw()
            x = self.x.index_select(0, at.view(-1)).view(*at.shape, -1)
            losses = self.losses(self.net(x), at)
            self.optimiser.zero_grad(set_to_none=not self.lean)
            (losses.sum() * self.plan.replicas).backward()
            self.optimiser.step()
            total += losses.detach()
        return total / steps

    @torch.no_grad()
    def judge(self) -> list[float]:
        """Each replica on its own held-out fold only; a task's best weights are kept."""
        self.net.eval()
        losses = self.losses(self.net(self.x[self.held]), self.held, self.is_held).tolist()
        self.net.train()
        better = [i for i, loss in enumerate(losses) if loss < self.best[i] - 1e-5]
        snapshot = {n: p.detach().clone() for n, p in self.net.named_parameters()} if better else {}
        for i in better:
            self.best[i], self.kept[i] = losses[i], snapshot
        return losses

    @torch.no_grad()
    def probabilities(self) -> list[Tensor]:
        """Per task (F,n,K) of every row by the task's best weights."""
        self.net.eval()
        current, out, done = copy.deepcopy(self.net.state_dict()), [], {}
        for i, kept in enumerate(self.kept):
            if id(kept) not in done:
                self.net.load_state_dict(kept)
                x = self.x.expand(self.plan.replicas, -1, -1)
                done[id(kept)] = [p.exp() for p in class_log_probabilities(self.net(x), self.tasks)]
            out.append(done[id(kept)][i])
        self.net.load_state_dict(current)
        return out


def train(
    nodes: Sequence[NodeData], tasks: Sequence[Task], plan: LearningPlan, lean: bool
) -> tuple[list[tuple[float, float]], float]:
    """The whole training: (wall and processor clock after each averaging, mean training loss of the last round)."""
    trainers = [Trainer(data, tasks, plan, seed, lean) for seed, data in enumerate(nodes)]
    shared = [n for n, _ in trainers[0].net.named_parameters() if n.startswith(("trunk", "head"))]
    parameters = [dict(t.net.named_parameters()) for t in trainers]
    centre = {n: parameters[0][n].detach().clone() for n in shared}
    clock, last = [], {}
    for t in range(1, plan.rounds + 1):
        deltas = {n: torch.zeros_like(v) for n, v in centre.items()}
        for trainer, own in zip(trainers, parameters, strict=True):
            with torch.no_grad():
                for n in shared:
                    own[n].copy_(centre[n])
            if t > 1:
                trainer.judge()
            last[trainer] = trainer.train_round(t)
            for n in shared:
                deltas[n] += own[n].detach() - centre[n]
        for n in shared:
            centre[n] += deltas[n] / len(trainers)
        clock.append((time.perf_counter(), time.process_time()))
    for trainer, own in zip(trainers, parameters, strict=True):
        with torch.no_grad():
            for n in shared:
                own[n].copy_(centre[n])
        trainer.judge()
        trainer.probabilities()
    return clock, float(torch.stack(list(last.values())).mean())
