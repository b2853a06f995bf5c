import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.models.heads import Likelihood, corrected_loss, log_probabilities, probabilities, task_losses
from fedprofile.privacy.randomised_response import class_prior, diluted, flip_matrix
from fedprofile.types import Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))
KEEP = 0.787


def flip(classes: int, keep: float) -> torch.Tensor:
    m = torch.full((classes, classes), (1 - keep) / (classes - 1))
    return m.fill_diagonal_(keep)


def batch(seed: int, k: int = 2) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, k, 16, 3, generator=g) * 3
    return logits, {t.name: torch.randint(-1, t.classes, (3, 16), generator=g) for t in TASKS}


def test_continuation_ratio_by_hand() -> None:
    # P(y>0) = s(0) = 1/2, P(y>1) = s(0) s(log 3) = 3/8; need s(-log 3) = 1/4
    p = {n: v.exp() for n, v in log_probabilities(torch.tensor([0.0, math.log(3), -math.log(3)]), TASKS).items()}
    torch.testing.assert_close(p["tier"], torch.tensor([1 / 2, 1 / 8, 3 / 8]))
    torch.testing.assert_close(p["need"], torch.tensor([3 / 4, 1 / 4]))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.lists(st.floats(-60, 60), min_size=6, max_size=6))
def test_classes_sum_to_one_for_any_logits(classes: int, z: list[float]) -> None:
    lp = log_probabilities(torch.tensor(z[: classes - 1]), (Task("t", "ordinal", classes),))["t"]
    assert lp.shape == (classes,)
    assert float(lp.exp().sum()) == pytest.approx(1, abs=1e-5)


def test_identity_correction_is_plain_likelihood_and_replicas_add_up() -> None:
    logits, labels = batch(0)
    plain = corrected_loss(logits, labels, {}, TASKS)
    same = corrected_loss(logits, labels, {t.name: torch.eye(t.classes) for t in TASKS}, TASKS)
    torch.testing.assert_close(plain, same, rtol=1e-4, atol=1e-4)
    by_hand = 0.0
    for task, lp in zip(TASKS, log_probabilities(logits, TASKS).values(), strict=True):
        y = labels[task.name][:, None].expand(3, 2, 16)
        by_hand += -lp.gather(-1, y.clamp(min=0)[..., None])[..., 0][y >= 0].mean()
    torch.testing.assert_close(plain, by_hand * 3)


def test_forward_correction_by_hand() -> None:
    logits, labels = batch(1)
    flips = {t.name: flip(t.classes, KEEP) for t in TASKS}
    losses = task_losses(logits, Likelihood.of(labels, flips, TASKS), TASKS)
    for i, task in enumerate(TASKS):
        q = log_probabilities(logits, TASKS)[task.name].exp() @ flips[task.name]
        y = labels[task.name][:, None].expand(3, 2, 16)
        want = -q.gather(-1, y.clamp(min=0)[..., None])[..., 0].log()[y >= 0].mean()
        torch.testing.assert_close(losses[i], want, rtol=1e-5, atol=1e-5)


def test_a_row_without_label_has_no_gradient() -> None:
    logits, labels = batch(2)
    labels = {n: y.clone() for n, y in labels.items()}
    for y in labels.values():
        y[:, 5] = -1
    labels["need"][:] = -1
    logits.requires_grad_()
    flips = {t.name: flip(t.classes, KEEP) for t in TASKS}
    corrected_loss(logits, labels, flips, TASKS).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, 5].any()
    assert not logits.grad[..., 2].any()
    assert logits.grad[..., :2].any()


def test_correction_is_consistent() -> None:
    """The true class probabilities minimise the corrected loss on randomised labels (Patrini 2017)."""
    g = np.random.default_rng(3)
    truth = np.array([0.6, 0.3, 0.1])
    y = g.choice(3, 40_000, p=truth)
    m = flip(3, KEEP).numpy()
    noisy = torch.from_numpy(np.array([g.choice(3, p=m[c]) for c in y[:4000]]))
    tasks, z = TASKS[:1], torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.LBFGS([z], max_iter=60)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = corrected_loss(z.expand(1, 1, 4000, 2), {"tier": noisy[None]}, {"tier": flip(3, KEEP)}, tasks)
        loss.backward()
        return loss

    optimiser.step(closure)
    p = probabilities(z.detach().expand(1, 1, 1, 2), tasks)["tier"][0, 0].numpy()
    np.testing.assert_allclose(p, truth, atol=0.03)


def fitted(flips: torch.Tensor, x: torch.Tensor, released: torch.Tensor, task: Task) -> torch.Tensor:
    """(features + 1, C) of a linear model by the corrected loss."""
    w = torch.zeros(x.shape[1], task.outputs, requires_grad=True)
    optimiser = torch.optim.LBFGS([w], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = corrected_loss((x @ w)[None, None], {task.name: released[None]}, {task.name: flips}, (task,))
        value.backward()
        return value

    optimiser.step(loss)
    return w.detach()


def test_with_labels_of_nobody_among_them_the_loss_still_finds_the_true_model() -> None:
    """Consistency (Patrini 2017) of the correction for a union: the error falls as customers come, by nothing else.

    Sixty in a hundred labels are the customer's own, randomised at epsilon 2; the others are released labels of
    others, drawn at random.
    """
    task, share = Task("tier", "ordinal", 3), 0.6
    truth = torch.tensor([[1.2, -0.4], [-0.8, 1.0], [0.3, -0.6]])
    channel = flip_matrix(3, 2.0)
    errors, uncorrected = [], []
    for n in (3_000, 300_000):
        g = torch.Generator().manual_seed(7)
        x = torch.cat([torch.randn(n, 2, generator=g), torch.ones(n, 1)], 1)
        p = probabilities((x @ truth)[None, None], (task,))["tier"][0]
        y = torch.multinomial(p, 1, generator=g)[:, 0]
        own = torch.multinomial(torch.tensor(channel, dtype=torch.float32)[y], 1, generator=g)[:, 0]
        nobodys = torch.rand(n, generator=g) >= share
        released = torch.where(nobodys, own[torch.randint(n, (n,), generator=g)], own)
        prior = class_prior(released.numpy(), 3, channel)
        for flips, into in ((diluted(channel, prior, share), errors), (channel, uncorrected)):
            found = fitted(torch.tensor(flips, dtype=torch.float32), x, released, task)
            into.append(float((found - truth).abs().max()))
    assert errors[1] < 0.06 < errors[0]
    assert uncorrected[1] > 0.4
