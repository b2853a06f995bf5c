import numpy as np
import pytest
import torch

from fedprofile.models.layout import NetShape, encoder_shapes, shared_shapes
from fedprofile.models.net import DropoutPool, ProfileNet, initialise, load_weights, weights
from fedprofile.types import LearningPlan, Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))


def build(k: int) -> ProfileNet:
    net = ProfileNet(5, 3, NetShape.of(LearningPlan(ensemble=k)))
    initialise(net, 0, "x")
    return net


@pytest.mark.parametrize("k", [1, 4])
def test_names_and_shapes_are_those_of_the_layout(k: int) -> None:
    plan = LearningPlan(ensemble=k)
    own = {n: tuple(p.shape) for n, p in build(k).named_parameters()}
    assert own == encoder_shapes(5, plan) | shared_shapes(TASKS, plan)


@pytest.mark.parametrize("k", [1, 4])
def test_forward_by_hand(k: int) -> None:
    """Replica f, member m computed with numpy alone."""
    net, x = build(k), np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)
    w = weights(net, "")
    logits = net(torch.from_numpy(x), None).detach().numpy()
    assert logits.shape == (3, k, 7, 3)
    f, m = 2, k - 1

    def layer(name: str, h: np.ndarray) -> np.ndarray:
        h = h * w[f"{name}.adapter"][f, m] if f"{name}.adapter" in w else h
        h = h @ w[f"{name}.weight"][f]
        return h * (w[f"{name}.scale"][f, m] if k > 1 else 1) + w[f"{name}.bias"][f, m]

    h = layer("encoder.second", np.maximum(layer("encoder.first", x[f]), 0))
    h = np.maximum(layer("trunk.hidden", np.maximum(h, 0)), 0)
    want = h @ w["trunk.heads.weight"][f, m] + w["trunk.heads.bias"][f, m]
    np.testing.assert_allclose(logits[f, m], want, rtol=1e-4, atol=1e-5)


def test_shared_rows_equal_repeated_rows() -> None:
    net, x = build(2), torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(x, None), net(x.expand(3, -1, -1).contiguous(), None))


def test_dropout_pool_rate_scale_and_replay() -> None:
    def draw() -> torch.Tensor:
        pool = DropoutPool(torch.Generator().manual_seed(5), 0.2, size=1 << 16)
        return torch.stack([pool.apply(torch.ones(40, 500)) for _ in range(5)])

    masks = draw()
    assert torch.equal(masks, draw())
    assert masks.mean() == pytest.approx(1, abs=0.02)
    assert set(masks.unique().tolist()) == {0.0, 1.25}
    assert not torch.equal(masks[0], masks[1])
    state = torch.get_rng_state()
    DropoutPool(torch.Generator().manual_seed(5), 0.2, size=8).apply(torch.ones(100))
    assert torch.equal(state, torch.get_rng_state())


def test_foreign_tensors_are_refused_and_nothing_is_half_loaded() -> None:
    net = build(1)
    before = weights(net, "")
    with pytest.raises(ValueError, match="does not belong"):
        load_weights(net, {"encoder.first.bias": before["encoder.first.bias"] + 1, "nope": np.zeros(1, np.float32)})
    assert all(np.array_equal(v, before[n]) for n, v in weights(net, "").items())
