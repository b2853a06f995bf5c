import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fedprofile.errors import ConfigError, FedprofileError, TrainingDiverged
from fedprofile.models.layout import encoder_shapes, initial_weights, shared_shapes
from fedprofile.models.learner import LocalLearner
from fedprofile.types import LearningPlan, Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))
PLAN = LearningPlan(rounds=4, steps=40, hidden=32, profile=16, batch=128)
TRAIN = 900
torch.set_num_threads(1)


def flip(classes: int, keep: float = 0.8) -> np.ndarray:
    m = np.full((classes, classes), (1 - keep) / (classes - 1), np.float32)
    np.fill_diagonal(m, keep)
    return m


def toy(n: int = 1500) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    g = np.random.default_rng(0)
    x = g.normal(size=(n, 8)).astype(np.float32)
    tier = np.digitize(x[:, 0] + x[:, 1] * x[:, 2] + g.normal(0, 0.4, n), [-0.5, 0.7])
    need = (x[:, 3] + g.normal(0, 0.5, n) > 0).astype(int)
    truth = {"tier": tier, "need": need}
    noisy = {}
    for task in TASKS:
        draw = np.array([g.choice(task.classes, p=flip(task.classes)[c]) for c in truth[task.name]])
        noisy[task.name] = np.where(g.random(n) < 0.05, -1, draw)
    return x, truth, noisy


X, TRUTH, NOISY = toy()
PRIORS = {t.name: np.bincount(TRUTH[t.name][:TRAIN]) / TRAIN for t in TASKS}
FOLD = np.random.default_rng(1).integers(0, 3, len(X))


def auc(y: np.ndarray, score: np.ndarray) -> float:
    rank = np.argsort(np.argsort(score))
    return float((rank[y > 0].mean() - (y.sum() - 1) / 2) / (len(y) - y.sum()))


def make(plan: LearningPlan = PLAN, x: np.ndarray = X, seed: int = 3, fold: np.ndarray = FOLD) -> LocalLearner:
    flips = {t.name: flip(t.classes) for t in TASKS}
    learner = LocalLearner("tax-1", x, NOISY, fold, np.arange(len(x)) < TRAIN, TASKS, flips, PRIORS, plan, seed)
    learner.load(
        initial_weights(shared_shapes(TASKS, plan), 0, ""),
        initial_weights(encoder_shapes(x.shape[1], plan), 0, "tax"),
    )
    return learner


def fit(learner: LocalLearner) -> LocalLearner:
    for t in range(1, learner.plan.rounds + 1):
        learner.run_round(t)
        learner.judge(t)
    return learner


@pytest.fixture(scope="module")
def fitted() -> LocalLearner:
    return fit(make())


def test_it_learns_from_randomised_labels(fitted: LocalLearner) -> None:
    s = fitted.log_odds()
    assert s.shape == (len(X), 3)
    assert s.dtype == np.float32
    for part in (slice(None, TRAIN), slice(TRAIN, None)):
        assert auc(TRUTH["need"][part], s[part, 2]) > 0.85
        assert auc(1 * (TRUTH["tier"][part] > 1), s[part, 1]) > 0.8
    gains = fitted.gains(s)
    assert gains["need"] > 0.05
    assert gains["tier"] > 0.05
    nothing = fitted.gains(np.zeros_like(s))
    assert nothing["tier"] == pytest.approx(1e-4, abs=0.005)


def test_training_rows_are_scored_by_the_replica_that_never_saw_them() -> None:
    """Labels that are pure noise must not show in out-of-fold scores, however long one trains."""
    plan = replace(PLAN, steps=150, dropout=0.0, batch=32)
    g = np.random.default_rng(2)
    x = g.normal(size=(200, 60)).astype(np.float32)
    y = {"need": g.integers(0, 2, 200)}
    need, prior = TASKS[1:], {"need": np.array([0.5, 0.5])}
    learner = LocalLearner("a", x, y, FOLD[:200], np.ones(200, bool), need, {"need": None}, prior, plan, 0)
    learner.load(initial_weights(shared_shapes(need, plan), 0, ""), initial_weights(encoder_shapes(60, plan), 0, ""))
    for t in range(1, 5):
        learner.run_round(t)
    learner.judge(4)
    own = learner.log_odds()[:, 0]
    assert auc(y["need"], own) < 0.65
    with torch.no_grad():
        mean = learner._net(learner._x[None], None)[:, 0, :, 0].mean(0).numpy()
    assert auc(y["need"], mean) > 0.9  # the replicas that did see a row know it by heart


def test_equal_seeds_give_equal_bytes_and_global_generators_do_not_matter(fitted: LocalLearner) -> None:
    torch.manual_seed(99)
    np.random.seed(99)
    again = fit(make())
    assert again.log_odds().tobytes() == fitted.log_odds().tobytes()
    assert make(seed=4).run_round(1) != make(seed=3).run_round(1)


RESUME = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
from test_learner import make, load_file, save_file
learner = make()
learner.restore(load_file({state!r}))
for t in (3, 4):
    learner.judge(t - 1); learner.run_round(t)
learner.judge(4)
save_file(learner.state() | {{"scores": learner.log_odds()}}, {out!r})
assert "torch._dynamo" not in sys.modules  # its import would cost every node's start 2 s
"""


def test_a_restored_learner_continues_to_the_bit_in_a_new_process(tmp_path: Path) -> None:
    learner = make()
    for t in (1, 2):
        learner.run_round(t)
        learner.judge(t)
    state, out = tmp_path / "state.safetensors", tmp_path / "out.safetensors"
    save_file(learner.state(), state)
    for t in (3, 4):
        learner.judge(t - 1)
        learner.run_round(t)
    learner.judge(4)
    here = Path(__file__).parent
    code = RESUME.format(root=str(here.parents[1]), here=str(here), state=str(state), out=str(out))
    subprocess.run([sys.executable, "-c", code], check=True)
    want, got = learner.state() | {"scores": learner.log_odds()}, load_file(out)
    assert set(want) == set(got)
    for name, value in want.items():
        assert value.tobytes() == got[name].tobytes(), name
    assert sum(v.nbytes for v in learner.state().values()) < state.stat().st_size * 2


def test_a_state_before_the_first_step_restores(fitted: LocalLearner) -> None:
    fresh = make()
    state = fresh.state()
    first = fresh.run_round(1)
    fitted_copy = make()
    fitted_copy.run_round(1)
    fitted_copy.restore(state)
    assert fitted_copy.run_round(1) == first


def test_judge_keeps_the_best_round(fitted: LocalLearner) -> None:
    learner = make()
    losses = {}
    for t in range(1, 5):
        learner.run_round(t)
        losses[t] = learner.judge(t)
    best = learner.best
    scores = learner.log_odds()
    bad = {n: v * 0 for n, v in learner.shared().items()}
    learner.load(bad)
    worse = learner.judge(5)
    for task in TASKS:
        want = min(losses, key=lambda t: losses[t][task.name])
        assert best[task.name] == (pytest.approx(losses[want][task.name], abs=2e-5), pytest.approx(want, abs=1))
        assert worse[task.name] > best[task.name][0]
    assert learner.best == best
    assert learner.log_odds().tobytes() == scores.tobytes()
    assert not any(v.any() for v in learner.shared().values())  # scoring left the current weights alone


def test_shared_weights_replace_trunk_and_leave_the_encoder() -> None:
    learner = make()
    learner.run_round(1)
    encoder, start = learner.encoder(), initial_weights(shared_shapes(TASKS, PLAN), 0, "")
    assert not np.array_equal(learner.shared()["trunk.hidden.weight"], start["trunk.hidden.weight"])
    learner.load(start)
    assert all(np.array_equal(v, start[n]) for n, v in learner.shared().items())
    assert all(np.array_equal(v, encoder[n]) for n, v in learner.encoder().items())
    moved = learner.run_round(2)
    assert moved.rows == TRAIN
    assert set(moved.loss) == {"tier", "need"}


def test_divergence_names_node_layer_and_round() -> None:
    broken = X.copy()
    broken[5, 2] = np.nan
    with pytest.raises(TrainingDiverged) as error:
        make(x=broken).run_round(1)
    assert (error.value.node, error.value.layer, error.value.t) == ("tax-1", "features", 1)
    learner = make()
    poisoned = {n: v.copy() for n, v in learner.shared().items()}
    poisoned["trunk.hidden.bias"][0, 0, 0] = np.inf
    with pytest.raises(TrainingDiverged, match=r"trunk\.hidden\.bias"):
        learner.load(poisoned)
    with pytest.raises(TrainingDiverged):
        make(replace(PLAN, lr=1e38)).run_round(1)


def test_misuse_is_refused() -> None:
    with pytest.raises(ConfigError, match="replicas"):
        make(replace(PLAN, replicas=1))
    with pytest.raises(FedprofileError, match="too few"):
        make(fold=np.zeros(len(X), int))
    with pytest.raises(ValueError, match="outside 1"):
        make().run_round(0)
    with pytest.raises(RuntimeError, match="judge"):
        make().log_odds()
