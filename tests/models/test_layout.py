import hashlib
import subprocess
import sys

import numpy as np
import pytest

from fedprofile.models.layout import encoder_shapes, initial_weights, shared_shapes
from fedprofile.types import LearningPlan, Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))


def test_first_values_are_the_same_for_ever() -> None:
    """Pinned: a new numpy, platform or refactoring must not give two nodes different starts."""
    plan = LearningPlan(ensemble=4)
    w = initial_weights(shared_shapes(TASKS, plan) | encoder_shapes(5, plan), 7, "all")
    h = hashlib.sha256()
    for name in sorted(w):
        h.update(name.encode() + w[name].astype("<f4").tobytes())
    assert h.hexdigest() == "86197abf048cdc7c1f913fb9244d889fb50d8f18e0a1dec213d52804b4c024cc"
    again = initial_weights(encoder_shapes(5, plan), 7, "all")
    assert all(np.array_equal(v, w[n]) for n, v in again.items())


def test_first_values_follow_the_fan_in() -> None:
    w = initial_weights(encoder_shapes(400, LearningPlan(ensemble=4)), 0, "tax")
    first = w["encoder.first.weight"]
    assert first.dtype == np.float32
    assert np.abs(first).max() <= 1 / 20
    assert first.std() == pytest.approx(1 / 20 / np.sqrt(3), rel=0.02)
    assert np.abs(w["encoder.first.bias"]).max() <= 1 / 20
    assert set(np.unique(w["encoder.first.adapter"])) == {-1, 1}
    assert (w["encoder.second.scale"] == 1).all()
    assert not np.array_equal(first[0], first[1])


def test_seed_and_scope_change_every_random_tensor() -> None:
    shapes = shared_shapes(TASKS, LearningPlan())
    a, b, c = (initial_weights(shapes, s, scope) for s, scope in ((0, "x"), (1, "x"), (0, "y")))
    assert all(not np.array_equal(a[n], b[n]) and not np.array_equal(a[n], c[n]) for n in shapes)


def test_one_member_is_a_plain_network_of_the_documented_size() -> None:
    plan = LearningPlan()
    names = shared_shapes(TASKS, plan) | encoder_shapes(120, plan)
    assert not [n for n in names if n.endswith(("scale", "adapter"))]
    assert sum(int(np.prod(s)) for s in shared_shapes(TASKS, plan).values()) == 3 * (64 * 96 + 96 + 96 * 3 + 3)


def test_a_tensor_without_a_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="gain"):
        initial_weights({"encoder.norm.gain": (3, 4)}, 0, "x")


def test_layout_needs_no_torch() -> None:
    code = (
        "import sys; from fedprofile.models.layout import *; from fedprofile.types import *;"
        "encoder_shapes(3, LearningPlan()); import fedprofile.models.grid; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
