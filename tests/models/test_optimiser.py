import numpy as np
import pytest
import torch
from torch import Tensor

from fedprofile.models.layout import NetShape
from fedprofile.models.net import ProfileNet, initialise, weights
from fedprofile.models.optimiser import AdamW, flatten
from fedprofile.types import LearningPlan


def build() -> ProfileNet:
    net = ProfileNet(5, 3, NetShape.of(LearningPlan(ensemble=2)))
    initialise(net, 0, "x")
    return net


def test_it_is_torchs_adamw_on_views() -> None:
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(2))
    ours, theirs = build(), build()
    own, reference = AdamW(*flatten(ours), weight_decay=0.1), torch.optim.AdamW(theirs.parameters(), weight_decay=0.1)
    for lr in (0.01, 0.02, 0.005, 0.01):
        reference.param_groups[0]["lr"] = lr
        own.zero_grad()
        reference.zero_grad()
        for net in (ours, theirs):
            net(x, None).square().mean().backward()
        own.step(lr)
        reference.step()
    for name, value in weights(theirs).items():
        np.testing.assert_allclose(weights(ours)[name], value, rtol=1e-4, atol=1e-6)


def test_it_resumes_to_the_bit_and_refuses_another_size() -> None:
    def start() -> tuple[Tensor, Tensor]:
        return torch.linspace(-1, 1, 50), torch.zeros(50)

    def go(values: Tensor, gradients: Tensor, optimiser: AdamW, steps: int) -> None:
        for _ in range(steps):
            gradients.copy_(values.sin())
            optimiser.step(0.1)

    values, gradients = start()
    optimiser = AdamW(values, gradients, 0.01)
    go(values, gradients, optimiser, 3)
    kept, state = values.clone(), optimiser.state()
    go(values, gradients, optimiser, 3)
    again = (kept, torch.zeros(50))
    other = AdamW(*again, 0.01)
    other.restore(state)
    go(*again, other, 3)
    assert torch.equal(values, kept)
    with pytest.raises(RuntimeError):
        AdamW(torch.zeros(3), torch.zeros(3), 0.0).restore(state)
