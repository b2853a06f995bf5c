"""Names, shapes and first values of every tensor, without torch: what the coordinator and the nodes agree on.

F replicas, k ensemble members, d input features, C outputs (see ``fedprofile.types``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from fedprofile.aggregation import role_takes_trunk
from fedprofile.models.registry import load_object, resolve
from fedprofile.types import LearningPlan, RunPlan, Task, Weights, digest

Shapes = dict[str, tuple[int, ...]]
RECOMPUTED_PARAMETERS = 1_000_000
"""As many as a node adds up again in a round: trunk, heads and its role's encoder (secure-sum 9.6)."""


@dataclass(frozen=True)
class NetShape:
    """What fixes a network besides its input width and outputs: F, k, hidden width, profile width, dropout rate."""

    replicas: int
    ensemble: int
    hidden: int
    profile: int
    dropout: float
    encoder: str = "mlp"

    @staticmethod
    def of(plan: LearningPlan) -> NetShape:
        return NetShape(plan.replicas, plan.ensemble, plan.hidden, plan.profile, plan.dropout, plan.encoder)


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder as plugins register it.

    shapes: (width d, NetShape) -> tensor name -> shape, callable without torch. Names end in ``.weight``
    (fan-in is the last dimension but one), ``.bias``, ``.scale`` or ``.adapter``; ``initial_weights`` goes by them.
    module: "package.module:Class" of an ``nn.Module`` built as ``Class(width, shape)`` with exactly those
    tensors, whose forward takes (x (F,B,d), pool) to (F,k,B,profile); imported only where a network is built.
    """

    shapes: Callable[[int, NetShape], Shapes]
    module: str

    def build(self, width: int, shape: NetShape) -> Any:
        return load_object(self.module)(width, shape)


def linear_shapes(name: str, shape: NetShape, inputs: int, outputs: int, *, first: bool = False) -> Shapes:
    """One BatchEnsemble linear layer; with one member it is a plain linear layer without scale and adapter."""
    out: Shapes = {f"{name}.weight": (shape.replicas, inputs, outputs)}
    if shape.ensemble > 1:
        if first:
            out[f"{name}.adapter"] = (shape.replicas, shape.ensemble, inputs)
        out[f"{name}.scale"] = (shape.replicas, shape.ensemble, outputs)
    return out | {f"{name}.bias": (shape.replicas, shape.ensemble, outputs)}


def _mlp_shapes(width: int, shape: NetShape) -> Shapes:
    return linear_shapes("first", shape, width, shape.hidden, first=True) | linear_shapes(
        "second", shape, shape.hidden, shape.profile
    )


MLP = EncoderSpec(_mlp_shapes, "fedprofile.models.net:MlpEncoder")


def encoder_shapes(width: int, plan: LearningPlan) -> Shapes:
    """Tensors of an encoder for d = ``width`` features; ConfigError if ``plan.encoder`` is not registered."""
    shapes: Shapes = resolve("encoders", plan.encoder).shapes(width, NetShape.of(plan))
    return {f"encoder.{name}": s for name, s in shapes.items()}


def shared_shapes(tasks: tuple[Task, ...], plan: LearningPlan) -> Shapes:
    """Tensors of trunk and heads, all F replicas in one tensor each."""
    return trunk_shapes(sum(t.outputs for t in tasks), NetShape.of(plan))


def layer_names(tasks: tuple[Task, ...], plan: LearningPlan) -> frozenset[str]:
    """What a diverging training may name: a tensor, the features or the loss."""
    return frozenset({*encoder_shapes(1, plan), *shared_shapes(tasks, plan), "features", "loss"})


def parameters(tasks: tuple[Task, ...], plan: LearningPlan, width: int | None = None) -> int:
    """Numbers in trunk and heads and, for d = ``width`` features, a shared encoder."""
    shapes = shared_shapes(tasks, plan) | (encoder_shapes(width, plan) if width is not None else {})
    return sum(math.prod(s) for s in shapes.values())


def trunk_shapes(outputs: int, shape: NetShape) -> Shapes:
    """The same for C = ``outputs``: the trunk's hidden layer, then one head per member."""
    return linear_shapes("trunk.hidden", shape, shape.profile, shape.hidden) | {
        "trunk.heads.weight": (shape.replicas, shape.ensemble, shape.hidden, outputs),
        "trunk.heads.bias": (shape.replicas, shape.ensemble, outputs),
    }


def initial_weights(shapes: Mapping[str, tuple[int, ...]], seed: int, scope: str) -> Weights:
    """The first value of every tensor; equal bytes at every party, platform and numpy version.

    ``.weight`` and ``.bias`` are U(±1/sqrt(fan-in of the layer)), ``.scale`` is 1, ``.adapter`` is ±1
    (TabM, Gorishniy 2025). Raises ValueError for a name outside ``EncoderSpec``'s rules.
    """
    return {name: _draw(name, shapes, seed, scope) for name in shapes}


def start_hash(shared: Weights) -> bytes:
    """What a plan names trained weights of trunk and heads by."""
    return digest("start/1", save({name: shared[name] for name in sorted(shared)}))


def first_shared(plan: RunPlan) -> Weights:
    """What trunk and heads start from: nobody's choice but the plan's."""
    return initial_weights(shared_shapes(plan.tasks, plan.learning), plan.seed, "shared")


def first_encoder(plan: RunPlan, role: str, width: int) -> Weights:
    """What the members of a role start from, for d = ``width`` features; with the trunk where the role shares that."""
    weights = initial_weights(encoder_shapes(width, plan.learning), plan.seed, f"role/{role}")
    return weights | first_shared(plan) if role_takes_trunk(plan.learning) else weights


def _draw(name: str, shapes: Mapping[str, tuple[int, ...]], seed: int, scope: str) -> npt.NDArray[np.float32]:
    shape, (layer, _, role) = shapes[name], name.rpartition(".")
    if role == "scale":
        return np.ones(shape, np.float32)
    if role not in ("weight", "bias", "adapter") or (role == "bias" and f"{layer}.weight" not in shapes):
        raise ValueError(f"tensor {name!r} has no rule for its first value")
    key = digest("init/1", str(seed).encode(), scope.encode(), name.encode())
    # Raw bits, not Generator.uniform: numpy promises the same bit stream for ever, but not the same floats.
    raw = np.random.PCG64(int.from_bytes(key, "big")).random_raw(math.prod(shape))
    signed = ((raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)).reshape(shape)
    if role == "adapter":
        return np.where(signed < 0, np.float32(-1), np.float32(1))
    return signed * np.float32(1 / math.sqrt(shapes[f"{layer}.weight"][-2]))
