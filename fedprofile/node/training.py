"""One node's training across rounds: learner in memory, everything needed to go on committed in one file a round.

A round is committed together with the quantised integers that leave for it, before anything is sent: a retry
sends the same integers under new masks, and a killed node continues to the same model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedprofile.aggregation import META, role_takes_trunk
from fedprofile.errors import RemoteProtocolError, TrainingDiverged
from fedprofile.models.learner import LocalLearner, RoundLoss
from fedprofile.node.home import Arrays, NodeHome
from fedprofile.secagg.encoding import quantise
from fedprofile.types import Layout, LearningPlan, Quantised, Task, Weights

_STATE = "training.safetensors"
Dither = Callable[[str], Callable[[int], bytes]]


@dataclass
class LocalTraining:
    """``dither(purpose)`` gives the byte source of the stochastic rounding for one vector.

    ``slots`` (m,) says whose the learner's rows are: customers may leave between two rounds, none ever joins.
    ``gaps``: rounds may be missed (the resilient profile); a round still never comes again.
    """

    home: NodeHome
    plan: LearningPlan
    tasks: tuple[Task, ...]
    learner: LocalLearner
    dither: Dither
    slots: npt.NDArray[np.int64]
    gaps: bool = False
    t: int = 0
    _stamp: tuple[int, int] | None = None
    _pending: dict[str, Quantised] | None = None

    def refresh(self) -> None:
        """Read the committed state if another process of this node has moved on (Ray), or after a restart."""
        stamp = _stamp(self.home)
        if stamp == self._stamp:
            return
        arrays = self.home.read_arrays(_STATE) or {}
        self.t = int(arrays["t"][0])
        state = {k[2:]: v for k, v in arrays.items() if k.startswith("l/")}
        if arrays and not np.array_equal(arrays["slots"], self.slots):
            state |= _without_gone(state, arrays["slots"], self.slots)
        self.learner.restore(state)
        self._pending = _unpack(arrays)
        self._stamp = stamp

    def round(self, t: int, shared: Weights, encoder: Weights, layouts: Mapping[str, Layout]) -> dict[str, Quantised]:
        """Train round ``t`` (or return what it produced already) -> integers by kind ("update", "role").

        ``shared`` and ``encoder`` may be empty: what is not shared stays the node's own.
        Raises RemoteProtocolError("wrong_round") and TrainingDiverged.
        """
        self.refresh()
        if t == self.t and self._pending is not None:
            return self._pending
        if t <= self.t or not (self.gaps or t == self.t + 1):
            raise RemoteProtocolError("wrong_round", f"this node has finished round {self.t}")
        before = self._begin(t, shared, encoder)
        loss = self.learner.run_round(t)
        after = self.learner.shared() | self.learner.encoder()
        pending = {}
        saturated = 0
        for kind in ("role", "update"):  # the update goes last: it carries the count of saturated values
            if kind not in layouts:
                continue
            names = [s.name for s in layouts[kind].segments if s.name != META]
            values: dict[str, npt.NDArray[np.float64]] = {
                n: after[n].astype(np.float64) - before[n].astype(np.float64) for n in names
            }
            if kind == "update":
                clips = {s.name: s.clip for s in layouts[kind].segments}
                saturated += sum(int((np.abs(values[n]) > clips[n]).sum()) for n in names)
                values[META] = self._meta(loss, saturated)
            pending[kind] = quantise(values, layouts[kind], self.dither(f"{kind}/{t}"))
            saturated += pending[kind].saturated
        self._commit(t, pending)
        return pending

    def end(self, shared: Weights, encoder: Weights) -> None:
        """Judge the last averaged weights; nothing is trained. Raises RemoteProtocolError("wrong_round") too early."""
        self.refresh()
        if self.t != self.plan.rounds and not self.gaps:
            raise RemoteProtocolError("wrong_round", f"this node has finished round {self.t} of {self.plan.rounds}")
        self._load(shared, encoder)
        self.learner.judge(self.plan.rounds)

    def _begin(self, t: int, shared: Weights, encoder: Weights) -> Weights:
        self._load(shared, encoder)
        if t > 1:
            self.learner.judge(t - 1)
        return self.learner.shared() | self.learner.encoder()

    def _load(self, shared: Weights, encoder: Weights) -> None:
        trunk = {n: w for n, w in encoder.items() if n in self.learner.shared()} if role_takes_trunk(self.plan) else {}
        own = {n: w for n, w in encoder.items() if n not in trunk}
        self.learner.load(shared | trunk or self.learner.shared(), own or None)

    def _meta(self, loss: RoundLoss, saturated: int) -> npt.NDArray[np.float64]:
        losses = [loss.loss[t.name] for t in self.tasks]
        if not np.isfinite(losses).all():
            raise TrainingDiverged(self.home.config.party, "loss", self.t + 1)
        return np.array([1.0, loss.rows, saturated, *losses])

    def _commit(self, t: int, pending: dict[str, Quantised]) -> None:
        arrays: Arrays = {f"l/{k}": v for k, v in self.learner.state().items()}
        for kind, quantised in pending.items():
            arrays |= {f"p/{kind}/{name}": v for name, v in quantised.values.items()}
        arrays |= {"t": np.array([t]), "slots": self.slots}
        self.home.write_arrays(_STATE, arrays)
        self.t, self._pending, self._stamp = t, pending, _stamp(self.home)


def _without_gone(state: Arrays, before: npt.NDArray[np.int64], now: npt.NDArray[np.int64]) -> Arrays:
    """What is left of each pass over the rows, by the positions of those who are still there."""
    position = np.full(len(before), -1, dtype=np.int64)
    position[np.isin(before, now)] = np.arange(len(now))
    moved = {k: position[v] for k, v in state.items() if k.startswith("queue/")}
    return {k: v[v >= 0].astype(np.int32) for k, v in moved.items()}


def _stamp(home: NodeHome) -> tuple[int, int] | None:
    try:
        status = os.stat(home.run / _STATE)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _unpack(arrays: Arrays) -> dict[str, Quantised]:
    pending: dict[str, dict[str, npt.NDArray[np.generic]]] = {}
    for key, value in arrays.items():
        if key.startswith("p/"):
            _, kind, name = key.split("/", 2)
            pending.setdefault(kind, {})[name] = value
    return {kind: Quantised(values) for kind, values in pending.items()}
