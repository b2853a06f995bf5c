"""torch's AdamW kernel over one flat vector.

The functional form, because ``torch.optim.AdamW`` loads torch's compiler first: 2 s of every process's start.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


def flatten(net: nn.Module) -> tuple[Tensor, Tensor]:
    """Move all parameters, and their gradients, into two vectors (p,) and return them.

    The network's parameters and ``.grad`` become views, so zero the gradient vector in place, never by None.
    """
    own = list(net.parameters())
    values = torch.cat([p.detach().reshape(-1) for p in own])
    gradients = torch.zeros_like(values)
    at = 0
    for p in own:
        p.data = values[at : at + p.numel()].view(p.shape)
        p.grad = gradients[at : at + p.numel()].view(p.shape)
        at += p.numel()
    return values, gradients


class AdamW:
    """Decoupled weight decay (Loshchilov & Hutter 2019), betas .9 and .999; values and gradients are (p,) float32."""

    def __init__(self, values: Tensor, gradients: Tensor, weight_decay: float) -> None:
        self._values, self._gradients, self._weight_decay = values, gradients, weight_decay
        self._mean, self._square = torch.zeros_like(values), torch.zeros_like(values)
        self._steps = torch.tensor(0.0)

    def zero_grad(self) -> None:
        self._gradients.zero_()

    def step(self, lr: float) -> None:
        """One update in place."""
        with torch.no_grad():
            adamw(
                [self._values],
                [self._gradients],
                [self._mean],
                [self._square],
                [],
                [self._steps],
                fused=True,
                amsgrad=False,
                beta1=_BETA1,
                beta2=_BETA2,
                lr=lr,
                weight_decay=self._weight_decay,
                eps=_EPS,
                maximize=False,
            )

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        return {
            "adam/mean": self._mean.numpy().copy(),
            "adam/square": self._square.numpy().copy(),
            "adam/steps": np.array(int(self._steps), np.int64),
        }

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Take over ``state``; KeyError or RuntimeError if it is another network's."""
        self._mean.copy_(torch.tensor(state["adam/mean"]))
        self._square.copy_(torch.tensor(state["adam/square"]))
        self._steps.fill_(int(state["adam/steps"]))
