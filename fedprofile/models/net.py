"""The profile network: F cross-fit replicas x k BatchEnsemble members in one tensor program.

BatchEnsemble: Wen et al. 2020; adapter in the first layer only: TabM, Gorishniy et al. 2025. With k = 1 it
is a plain MLP. No normalisation layer, so that averaging weights over nodes needs no special case.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedprofile.models.layout import NetShape, Shapes, initial_weights, linear_shapes, trunk_shapes
from fedprofile.models.registry import resolve
from fedprofile.types import Weights

__all__ = [
    "BatchEnsembleLinear",
    "DropoutPool",
    "MlpEncoder",
    "NetShape",
    "ProfileNet",
    "initialise",
    "load_weights",
    "weights",
]


class DropoutPool:
    """Inverted-dropout masks cut at random offsets from one pool: drawing each mask was 37 % of a CPU step.

    generator: owns every draw, the pool first; equal generators give equal masks in equal call order.
    p: probability that a unit is dropped. A tensor of more than ``size`` elements gets a fresh mask.
    """

    def __init__(self, generator: torch.Generator, p: float, size: int = 1 << 20) -> None:
        self.generator, self.p = generator, p
        self._pool = self._masks(size) if p > 0 else torch.empty(0)

    def _masks(self, n: int) -> Tensor:
        return (torch.rand(n, generator=self.generator) >= self.p).float().mul_(1 / (1 - self.p))

    def apply(self, x: Tensor) -> Tensor:
        """``x`` with a share p of its elements zeroed and the rest scaled by 1/(1-p)."""
        if self.p <= 0:
            return x
        room = self._pool.numel() - x.numel()
        if room < 0:
            return x * self._masks(x.numel()).view(x.shape)
        at = int(torch.randint(room + 1, (1,), generator=self.generator))
        return x * self._pool[at : at + x.numel()].view(x.shape)


def _parameters(module: nn.Module, shapes: Shapes, prefix: str) -> None:
    for name, shape in shapes.items():
        module.register_parameter(name.removeprefix(prefix), nn.Parameter(torch.zeros(shape)))


class BatchEnsembleLinear(nn.Module):
    """(F, k or 1, B, inputs) -> (F, k, B, outputs): y = ((x * adapter) W) * scale + bias, W shared by members."""

    weight: Tensor
    bias: Tensor

    def __init__(self, shape: NetShape, inputs: int, outputs: int, *, first: bool = False) -> None:
        super().__init__()
        self.members = shape.ensemble
        self.adapter: Tensor | None
        self.scale: Tensor | None
        for absent in ("adapter", "scale"):
            self.register_parameter(absent, None)
        _parameters(self, linear_shapes("x", shape, inputs, outputs, first=first), "x.")

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            return torch.baddbmm(self.bias, x[:, 0], self.weight)[:, None]
        if self.adapter is not None:
            x = x * self.adapter[:, :, None]
        elif x.shape[1] == 1:
            x = x.expand(-1, self.members, -1, -1)
        f, k, b, i = x.shape
        y = torch.bmm(x.reshape(f, k * b, i), self.weight).view(f, k, b, -1)
        return torch.addcmul(self.bias[:, :, None], y, self.scale[:, :, None])


def _activate(x: Tensor, pool: DropoutPool | None) -> Tensor:
    x = torch.relu(x)
    return x if pool is None else pool.apply(x)


class MlpEncoder(nn.Module):
    """The private encoder: (F,B,d) -> profile (F,k,B,profile)."""

    def __init__(self, width: int, shape: NetShape) -> None:
        super().__init__()
        self.first = BatchEnsembleLinear(shape, width, shape.hidden, first=True)
        self.second = BatchEnsembleLinear(shape, shape.hidden, shape.profile)

    def forward(self, x: Tensor, pool: DropoutPool | None) -> Tensor:
        return self.second(_activate(self.first(x[:, None]), pool))  # type: ignore[no-any-return]


class _Heads(nn.Module):
    """An own linear layer per replica and member: (F,k,B,hidden) -> (F,k,B,C)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, outputs: int, shape: NetShape) -> None:
        super().__init__()
        shapes = trunk_shapes(outputs, shape)
        _parameters(self, {n: s for n, s in shapes.items() if n.startswith("trunk.heads.")}, "trunk.heads.")

    def forward(self, x: Tensor) -> Tensor:
        f, k, b, h = x.shape
        flat = torch.baddbmm(self.bias.view(f * k, 1, -1), x.reshape(f * k, b, h), self.weight.view(f * k, h, -1))
        return flat.view(f, k, b, -1)


class _Trunk(nn.Module):
    """The shared part: profile (F,k,B,profile) -> logits (F,k,B,C)."""

    def __init__(self, outputs: int, shape: NetShape) -> None:
        super().__init__()
        self.hidden = BatchEnsembleLinear(shape, shape.profile, shape.hidden)
        self.heads = _Heads(outputs, shape)

    def forward(self, profile: Tensor, pool: DropoutPool | None) -> Tensor:
        return self.heads(_activate(self.hidden(_activate(profile, pool)), pool))  # type: ignore[no-any-return]


class ProfileNet(nn.Module):
    """Encoder, trunk and heads; tensors are zero until ``initialise`` or ``load_weights``.

    width: d input features. outputs: C. Raises ConfigError for an encoder that is not registered.
    """

    def __init__(self, width: int, outputs: int, shape: NetShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder: nn.Module = resolve("encoders", shape.encoder).build(width, shape)
        self.trunk = _Trunk(outputs, shape)

    def forward(self, x: Tensor, pool: DropoutPool | None) -> Tensor:
        """x (F,B,d), or (1,B,d) for the same rows in every replica -> logits (F,k,B,C); no dropout without pool."""
        if x.shape[0] != self.shape.replicas:
            x = x.expand(self.shape.replicas, -1, -1)
        return self.trunk(self.encoder(x, pool), pool)  # type: ignore[no-any-return]


def weights(net: nn.Module, prefix: str = "") -> Weights:
    """Copies of the tensors whose name starts with ``prefix`` ("encoder.", "trunk." or "" for all)."""
    return {n: p.detach().numpy().copy() for n, p in net.named_parameters() if n.startswith(prefix)}


def load_weights(net: nn.Module, values: Weights) -> None:
    """Overwrite the named tensors in place, leaving the others; ValueError for an unknown name or shape."""
    own = dict(net.named_parameters())
    for name, value in values.items():
        if name not in own or own[name].shape != value.shape:
            raise ValueError(f"tensor {name!r} of shape {value.shape} does not belong to this network")
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(torch.tensor(value))


def initialise(net: nn.Module, seed: int, scope: str) -> None:
    """Give every tensor its first value by ``layout.initial_weights``."""
    load_weights(net, initial_weights({n: tuple(p.shape) for n, p in net.named_parameters()}, seed, scope))
