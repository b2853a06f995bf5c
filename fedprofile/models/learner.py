"""One node's local training: rounds, its own best snapshot, out-of-fold scores. No input, output or clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedprofile.aggregation import learning_rate
from fedprofile.errors import ConfigError, FedprofileError, TrainingDiverged
from fedprofile.models import net as nets
from fedprofile.models.batches import Batches, State, generator_state, restore_generator
from fedprofile.models.heads import Head, Likelihood, probabilities, task_losses
from fedprofile.models.layout import NetShape
from fedprofile.models.optimiser import AdamW, flatten
from fedprofile.models.registry import resolve
from fedprofile.models.scores import noisy_gain, noisy_log_loss
from fedprofile.models.snapshots import BestRounds, best_log_odds
from fedprofile.types import MISSING_LABEL, LearningPlan, Task, Weights, digest, output_slices

__all__ = ["LocalLearner", "RoundLoss", "noisy_gain"]

_WARM_UP, _CHUNK = 30, 4096


@dataclass(frozen=True)
class RoundLoss:
    """Mean training loss of one round by task (nats a labelled row), and the node's training rows."""

    loss: dict[str, float]
    rows: int


def _generator(seed: int, name: str, purpose: str) -> torch.Generator:
    key = digest("generator/1", str(seed).encode(), name.encode(), purpose.encode())
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


class LocalLearner:
    """Trains on released labels only; replica f never sees a row of fold f.

    features: (n,d) float32. released: task -> (n,) int64, -1 unknown. fold: (n,) in 0..F-1.
    train: (n,) bool, rows whose labels were released. flips: task -> (K,K) P(released | true), or None.
    priors: task -> (K,) class shares of the true labels. ``load`` must be called before anything else is.
    Raises ConfigError for fewer than 2 replicas or unknown names, FedprofileError if a replica has no row.
    """

    def __init__(
        self,
        name: str,
        features: npt.NDArray[np.float32],
        released: Mapping[str, npt.NDArray[np.int64]],
        fold: npt.NDArray[np.int64],
        train: npt.NDArray[np.bool_],
        tasks: tuple[Task, ...],
        flips: Mapping[str, npt.NDArray[np.float32] | None],
        priors: Mapping[str, npt.NDArray[np.float64]],
        plan: LearningPlan,
        seed: int,
    ) -> None:
        if plan.replicas < 2:
            raise ConfigError("model.replicas", "cross-fitting needs two or more", "Leave it at 3.")
        self.name, self.tasks, self.plan = name, tasks, plan
        self.fold, self.train, self.priors = np.asarray(fold), np.asarray(train), priors
        self.flips = {t.name: None if (m := flips.get(t.name)) is None else np.asarray(m, np.float32) for t in tasks}
        self.released = {t.name: np.where(self.train, released[t.name], MISSING_LABEL) for t in tasks}
        self._x = torch.from_numpy(np.ascontiguousarray(features, np.float32))
        self._labels = Likelihood.of(
            {t: torch.from_numpy(y) for t, y in self.released.items()},
            {t: None if m is None else torch.from_numpy(m) for t, m in self.flips.items()},
            tasks,
        )
        self._head: Head = resolve("heads", plan.head)
        self._net = nets.ProfileNet(features.shape[1], sum(t.outputs for t in tasks), NetShape.of(plan))
        self._parameters = dict(self._net.named_parameters())
        self._values, gradients = flatten(self._net)
        self._optimiser = AdamW(self._values, gradients, plan.weight_decay)
        self._pool = nets.DropoutPool(_generator(seed, name, "dropout"), plan.dropout)
        self._batches = self._make_batches(_generator(seed, name, "batches"))
        self._hold_out()
        self._kept = BestRounds(tuple(t.name for t in tasks))
        self.round = 0

    def _make_batches(self, generator: torch.Generator) -> Batches:
        rows = np.flatnonzero(self.train)
        seen = [rows[self.fold[rows] != f] for f in range(self.plan.replicas)]
        if not all(map(len, seen)):
            raise FedprofileError(
                f"node {self.name!r} has too few released customers to cross-fit {self.plan.replicas} replicas",
                "Give it more customers, or lower model.replicas.",
            )
        return Batches(seen, max(1, min(self.plan.batch, len(rows) // 2)), generator)

    @property
    def kept(self) -> BestRounds:
        """Each task's best snapshot so far."""
        return self._kept

    @property
    def best(self) -> dict[str, tuple[float, int]]:
        """task -> (lowest held-out loss, its round); empty before the first ``judge``."""
        return dict(self._kept.best)

    def shared(self) -> Weights:
        """Copies of trunk and heads."""
        return nets.weights(self._net, "trunk.")

    def encoder(self) -> Weights:
        """Copies of the private encoder."""
        return nets.weights(self._net, "encoder.")

    def load(self, shared: Weights, encoder: Weights | None = None) -> None:
        """Overwrite trunk and heads, and the encoder if given; the optimiser's moments stay.

        Raises TrainingDiverged if a value is not finite, ValueError for a foreign tensor.
        """
        nets.load_weights(self._net, shared | (encoder or {}))
        self._refuse_non_finite_weights(self.round)

    def run_round(self, t: int) -> RoundLoss:
        """Take ``plan.steps`` AdamW steps of round t in 1..rounds; TrainingDiverged if loss or weights break."""
        if not 1 <= t <= self.plan.rounds:
            raise ValueError(f"round {t} is outside 1..{self.plan.rounds}")
        total = torch.zeros(len(self.tasks))
        for step in range(self.plan.steps):
            total += self._step(t, learning_rate(self.plan, (t - 1) * self.plan.steps + step))
        self._refuse_non_finite_weights(t)
        self.round = t
        means = (total / self.plan.steps).tolist()
        return RoundLoss({task.name: v for task, v in zip(self.tasks, means, strict=True)}, int(self.train.sum()))

    def _step(self, t: int, lr: float) -> Tensor:
        at = self._batches.draw()
        x = self._x.index_select(0, at.view(-1)).view(*at.shape, -1)
        logits = self._net(x, self._pool)
        losses = task_losses(logits, self._labels.rows(at), self.tasks, self._head)
        if not math.isfinite(float(losses.detach().sum())):
            raise TrainingDiverged(self.name, self._broken_layer(), t)
        self._optimiser.zero_grad()
        (losses.sum() * logits.shape[0]).backward()
        self._optimiser.step(lr)
        return losses.detach()

    def _broken_layer(self) -> str:
        if not bool(torch.isfinite(self._x).all()):
            return "features"
        return next((n for n, p in self._parameters.items() if not bool(torch.isfinite(p).all())), "loss")

    def _refuse_non_finite_weights(self, t: int) -> None:
        if not bool(torch.isfinite(self._values).all()):
            raise TrainingDiverged(self.name, self._broken_layer(), t)

    def judge(self, t: int) -> dict[str, float]:
        """Corrected loss on held-out folds of the current weights, the sum after round t (0: before any), by task.

        Keeps encoder and trunk as the task's snapshot if they beat its best by more than 1e-5.
        Raises TrainingDiverged if a loss is not finite.
        """
        rows, held = self._held_rows, self._held_out()
        losses = {n: noisy_log_loss(p, self.released[n][rows], self.flips[n]) for n, p in held.items()}
        if not all(map(math.isfinite, losses.values())):
            raise TrainingDiverged(self.name, self._broken_layer(), t)
        self._kept.offer(t, losses, lambda: nets.weights(self._net))
        return losses

    def _hold_out(self) -> None:
        """Lay each replica's held-out rows side by side, padded, so that one pass of the network judges all."""
        rows = np.flatnonzero(self.train)
        held = [rows[self.fold[rows] == f] for f in range(self.plan.replicas)]
        at = np.zeros((len(held), max(map(len, held))), np.int64)
        self._is_held = np.zeros(at.shape, np.bool_)
        for f, own in enumerate(held):
            at[f, : len(own)], self._is_held[f, : len(own)] = own, True
        self._held, self._held_rows = torch.from_numpy(at), np.concatenate(held)

    def _held_out(self) -> dict[str, npt.NDArray[np.float32]]:
        """task -> (training rows, K), each by the replica that never saw it, in the order of ``_held_rows``."""
        parts = []
        with torch.no_grad():
            for i in range(0, self._held.shape[1], _CHUNK):
                logits = self._net(self._x[self._held[:, i : i + _CHUNK]], None)
                parts.append(probabilities(logits, self.tasks, self._head))
        return {t.name: np.concatenate([p[t.name].numpy() for p in parts], 1)[self._is_held] for t in self.tasks}

    def log_odds(self) -> npt.NDArray[np.float32]:
        """(n, C) centred cumulative log-odds of every row by each task's best snapshot.

        A training row is scored by the replica that never saw it, any other by the replicas' mean.
        Raises RuntimeError before the first ``judge``.
        """
        if not self._kept.best:
            raise RuntimeError("no snapshot yet: judge a round first")
        current, rows = nets.weights(self._net), np.arange(len(self.train))

        def unseen(p: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return np.where(self.train[:, None], p[self.fold, rows], p.mean(0))

        out = best_log_odds(self._net, self._kept, self._x, self.tasks, self._head, self.priors, unseen)
        nets.load_weights(self._net, current)
        return out

    def gains(self, log_odds: npt.NDArray[np.float32]) -> dict[str, float]:
        """``noisy_gain`` of (n, C) out-of-fold log-odds on the training rows, by task."""
        return {
            task: noisy_gain(log_odds[:, at], self.released[task], self.priors[task], self.flips[task])
            for task, at in output_slices(self.tasks).items()
        }

    def state(self) -> State:
        """Everything that training goes on from, for ``restore`` of a learner built with the same arguments."""
        out: State = {f"net/{n}": v for n, v in nets.weights(self._net).items()}
        out["generator/dropout"] = generator_state(self._pool.generator)
        out["round"] = np.array(self.round, np.int64)
        return out | self._optimiser.state() | self._batches.state() | self._kept.state()

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go on from ``state`` bit by bit; the dropout pool itself is drawn again from the seed.

        Raises ValueError or KeyError if the state belongs to another learner.
        """
        nets.load_weights(self._net, {n: np.asarray(state[f"net/{n}"], np.float32) for n in self._parameters})
        self._optimiser.restore(state)
        restore_generator(self._pool.generator, state["generator/dropout"])
        self._batches.restore(state)
        self._kept.restore(state)
        self.round = int(state["round"])
