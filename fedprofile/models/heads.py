"""From logits to class probabilities, and the loss that stays consistent under randomised labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from fedprofile.types import Task, output_slices

Head = Callable[[Tensor, tuple[Task, ...]], dict[str, Tensor]]
_TINY = 1e-7


def log_probabilities(logits: Tensor, tasks: tuple[Task, ...]) -> dict[str, Tensor]:
    """Continuation-ratio head: logits (..., C) -> task -> log class probabilities (..., K).

    log P(y > j) = sum over i <= j of logsigmoid(z_i), the conditional form of CORN (Shi, Cao & Raschka 2023);
    with two classes it is the logistic head [logsigmoid(-z), logsigmoid(z)].
    """
    up = logsigmoid(logits)
    down = up - logits
    out: dict[str, Tensor] = {}
    for task, at in zip(tasks, output_slices(tasks).values(), strict=True):
        above, stop = up[..., at], down[..., at]
        if task.classes > 2:
            above = above.cumsum(-1)
            stop = torch.cat([stop[..., :1], stop[..., 1:] + above[..., :-1]], -1)
        out[task.name] = torch.cat([stop, above[..., -1:]], -1)
    return out


@dataclass(frozen=True)
class Likelihood:
    """Labels as the loss reads them, so that one step costs the same few operations for any number of tasks.

    weights (..., K_1 + K_2 + ...): P(released label | true class), 0 where unknown. unknown (..., T): 1 where
    there is no label. sums (K_1 + K_2 + ..., T): adds up each task's classes. exact: no task is randomised, so
    the weights are one-hot and the loss stays in logs.
    """

    weights: Tensor
    unknown: Tensor
    sums: Tensor
    exact: bool

    @staticmethod
    def of(labels: Mapping[str, Tensor], flips: Mapping[str, Tensor | None], tasks: tuple[Task, ...]) -> Likelihood:
        parts, unknown = [], []
        for task in tasks:
            y, flip = labels[task.name], flips.get(task.name)
            column = (torch.eye(task.classes) if flip is None else flip).T[y.clamp(min=0)]
            parts.append(column * (y >= 0)[..., None])
            unknown.append((y < 0).float())
        exact = all(flips.get(t.name) is None for t in tasks)
        owner = torch.cat([torch.full((t.classes,), i) for i, t in enumerate(tasks)])
        sums = one_hot(owner, len(tasks)).float()
        return Likelihood(torch.cat(parts, -1), torch.stack(unknown, -1), sums, exact)

    def rows(self, at: Tensor) -> Likelihood:
        """The labels at positions ``at`` (F,B) of (n, ...) ones."""
        flat = at.reshape(-1)
        return Likelihood(
            self.weights.index_select(0, flat).view(*at.shape, -1),
            self.unknown.index_select(0, flat).view(*at.shape, -1),
            self.sums,
            self.exact,
        )


def task_losses(
    logits: Tensor, likelihood: Likelihood, tasks: tuple[Task, ...], head: Head = log_probabilities
) -> Tensor:
    """(T,) mean negative log-likelihood over members and labelled rows; 0 for a task without a label here.

    logits (F,k,B,C); likelihood over (F,B). Forward correction: Patrini et al. 2017.
    """
    log_p = torch.cat(list(head(logits, tasks).values()), -1)
    weights, unknown = likelihood.weights[:, None], likelihood.unknown[:, None]
    chances = log_p * weights if likelihood.exact else log_p.exp() * weights
    gained = chances @ likelihood.sums if likelihood.exact else (chances @ likelihood.sums + unknown + _TINY).log()
    known = likelihood.unknown[..., 0].numel() - likelihood.unknown.sum((0, 1))
    losses: Tensor = -gained.sum((0, 1, 2)) / (known * logits.shape[1]).clamp(min=1)
    return losses


def corrected_loss(
    logits: Tensor,
    labels: Mapping[str, Tensor],
    flips: Mapping[str, Tensor | None],
    tasks: tuple[Task, ...],
    head: Head = log_probabilities,
) -> Tensor:
    """The sum of ``task_losses`` over tasks, times F so that a replica's gradient does not depend on F; scalar.

    logits (F,k,B,C); labels[task] (F,B) int64, -1 unknown; flips[task] (K,K) float32 with
    [y, z] = P(released z | true y), or None for exact labels.
    """
    return task_losses(logits, Likelihood.of(labels, flips, tasks), tasks, head).sum() * logits.shape[0]


def probabilities(logits: Tensor, tasks: tuple[Task, ...], head: Head = log_probabilities) -> dict[str, Tensor]:
    """Mean over members: logits (F,k,B,C) -> task -> (F,B,K), rows sum to one."""
    return {name: lp.exp().mean(1) for name, lp in head(logits, tasks).items()}
