import numpy as np

from fedprofile.models.snapshots import BestRounds
from fedprofile.types import Weights


def weights(v: int) -> Weights:
    return {"trunk.x": np.full(3, v, np.float32)}


def test_each_task_keeps_its_own_best_round_and_no_other() -> None:
    kept = BestRounds(("a", "b"))
    losses = [(1.0, 2.0), (0.5, 2.5), (0.499995, 1.0), (0.6, 1.5)]
    for t, (a, b) in enumerate(losses):
        kept.offer(t, {"a": a, "b": b}, lambda t=t: weights(t))
    assert kept.best == {"a": (0.5, 1), "b": (1.0, 2)}  # 5e-6 better is not better
    assert {t: w["trunk.x"][0] for t, w in kept.weights.items()} == {1: 1, 2: 2}
    again = BestRounds(("a", "b"))
    again.restore(kept.state())
    assert again.best == kept.best
    assert all(np.array_equal(w["trunk.x"], kept.weights[t]["trunk.x"]) for t, w in again.weights.items())


def test_nothing_is_copied_for_a_worse_round() -> None:
    kept = BestRounds(("a",))
    kept.offer(0, {"a": 1.0}, lambda: weights(0))
    kept.offer(1, {"a": 1.0}, lambda: (_ for _ in ()).throw(AssertionError))
    assert kept.best["a"] == (1.0, 0)
