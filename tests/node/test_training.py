import numpy as np
import pytest

from fedprofile.aggregation import META, round_clip, update_layout
from fedprofile.errors import RemoteProtocolError, TrainingDiverged
from fedprofile.models.layout import initial_weights, shared_shapes
from fedprofile.types import Layout, Segment


def setting(world, t=1, party="tax"):
    run = world.node(party).run
    shapes = shared_shapes(run.plan.tasks, run.plan.learning)
    layout = update_layout(shapes, run.plan.learning, run.plan.tasks, t, 3)
    return run.training, initial_weights(shapes, 0, "shared"), layout


def signed(quantised, name):
    values = quantised.values[name]
    return values.view(f"i{values.itemsize}").astype(np.int64)


def test_a_round_gives_the_change_of_the_weights_in_steps_of_the_layout(ready):
    training, shared, layout = setting(ready[0])
    found = training.round(1, shared, {}, {"update": layout})["update"]
    after = training.learner.shared()
    for segment in layout.segments[:-1]:
        change = after[segment.name].astype(np.float64) - shared[segment.name]
        assert np.abs(signed(found, segment.name) * segment.scale - change).max() <= segment.scale
        assert np.abs(change).max() <= round_clip(training.plan, 1)
    nodes, rows, saturated, *losses = signed(found, META) * layout.segments[-1].scale
    assert (nodes, rows, saturated) == (1, training.learner.train.sum(), 0)
    assert all(0.1 < loss < 3 for loss in losses)


def test_asked_again_it_does_not_train_again_and_not_out_of_turn(ready):
    training, shared, layout = setting(ready[0])
    first = training.round(1, shared, {}, {"update": layout})
    before = training.learner.shared()
    assert training.round(1, shared, {}, {"update": layout}) is first
    assert all((before[n] == w).all() for n, w in training.learner.shared().items())
    for t in (3, 0):
        with pytest.raises(RemoteProtocolError) as error:
            training.round(t, shared, {}, {"update": layout})
        assert error.value.code == "wrong_round"


def test_where_rounds_may_be_missed_none_comes_again(ready):
    training, shared, layout = setting(ready[0])
    training.gaps = True
    training.round(2, shared, {}, {"update": layout})
    for t in (1, 0):
        with pytest.raises(RemoteProtocolError, match="wrong_round"):
            training.round(t, shared, {}, {"update": layout})


def test_a_restarted_node_has_what_it_was_about_to_send_and_goes_on_alike(ready):
    world, _ = ready
    training, shared, layout = setting(world)
    first = training.round(1, shared, {}, {"update": layout})["update"]
    world.restart("tax")
    again, _, second_layout = setting(world, 2)
    kept = again.round(1, shared, {}, {"update": layout})["update"]
    assert all((kept.values[n] == v).all() for n, v in first.values.items())
    here, there = (t.round(2, shared, {}, {"update": second_layout})["update"] for t in (training, again))
    assert all((here.values[n] == v).all() for n, v in there.values.items())


def test_another_process_that_moved_on_is_noticed(ready):
    world, _ = ready
    stale, shared, layout = setting(world)
    world.restart("tax")
    ahead, *_ = setting(world)
    ahead.round(1, shared, {}, {"update": layout})
    stale.refresh()
    assert stale.t == 1
    assert all((w == ahead.learner.shared()[n]).all() for n, w in stale.learner.shared().items())


def test_values_beyond_the_clip_are_counted_inside_the_mask(ready):
    training, shared, layout = setting(ready[0])
    tight = Layout((*(Segment(s.name, s.shape, 16, 1e-9, 1e-12) for s in layout.segments[:-1]), layout.segments[-1]))
    found = training.round(1, shared, {}, {"update": tight})["update"]
    after = training.learner.shared()
    expected = sum(int((np.abs(after[n].astype(np.float64) - w) > 1e-9).sum()) for n, w in shared.items())
    assert signed(found, META)[2] * layout.segments[-1].scale == expected > 0


def test_weights_that_break_training_name_node_and_layer_and_commit_nothing(ready):
    world, _ = ready
    training, shared, layout = setting(world)
    broken = shared | {"trunk.heads.bias": np.full_like(shared["trunk.heads.bias"], np.inf)}
    with pytest.raises(TrainingDiverged) as error:
        training.round(1, broken, {}, {"update": layout})
    assert (error.value.node, error.value.layer) == ("tax", "trunk.heads.bias")
    assert world.home("tax").read("training.safetensors") is None
