import json
from dataclasses import replace

import numpy as np
import pytest

from fedprofile.label_owner.home import read_membership
from fedprofile.models.partner_scorer import PartnerScorer
from fedprofile.models.scores import weigh
from fedprofile.node.run import NodeRun
from fedprofile.privacy.sealing import LabelRelease
from fedprofile.types import MISSING_LABEL, Schema


def release_of(world, party):
    return LabelRelease.decode(world.home(party).read("release.bin"), world.job.plan.tasks)


def test_released_labels_find_their_rows(ready):
    world, _ = ready
    run, release = world.node("tax").run, release_of(world, "tax")
    labels, train = run.released()
    assert train.sum() == len(release.slots)
    assert sorted(run.spine.slots[train]) == sorted(release.slots)
    for name, values in labels.items():
        by_slot = dict(zip(release.slots.tolist(), release.labels[name].tolist(), strict=True))
        assert values.tolist() == [by_slot.get(s, MISSING_LABEL) for s in run.spine.slots.tolist()]


def test_a_run_has_one_release(ready, code_of):
    world, _ = ready
    run, release = world.node("tax").run, release_of(world, "tax")
    tasks = world.job.plan.tasks
    run.store_release(release.encode(tasks))
    fewer = LabelRelease(release.slots[1:], {k: v[1:] for k, v in release.labels.items()}, release.priors, release.eps)
    assert code_of(lambda: run.store_release(fewer.encode(tasks))) == "release_changed"
    assert release_of(world, "tax").slots.tolist() == release.slots.tolist()


@pytest.mark.parametrize("change", [{"eps": None}, {"eps": 9.0}, {"slots": True}], ids=str)
def test_a_release_outside_the_plan_is_refused(ready, code_of, change):
    world, _ = ready
    run, release = world.node("tax").run, release_of(world, "tax")
    run.home.remove("release.bin")
    if "slots" in change:
        strangers = np.setdiff1d(np.arange(run.alignment.size), run.spine.slots)
        change = {"slots": np.append(release.slots[1:], strangers[:1])}
    changed = replace(release, **change)
    assert code_of(lambda: run.store_release(changed.encode(run.plan.tasks))) == "bad_release"
    assert run.home.read("release.bin") is None


def test_rounding_noise_is_of_the_vector_and_the_plan_not_of_the_run(ready):
    run = ready[0].node("tax").run
    again = NodeRun(run.home, replace(run.plan, run_id=b"\1" * 32), run.roster)
    other = NodeRun(run.home, replace(run.plan, seed=1), run.roster)
    assert run.dither("update/1")(32) == again.dither("update/1")(32)
    drawn = [run.dither("update/1")(32), run.dither("update/2")(32), other.dither("update/1")(32)]
    assert len(set(drawn)) == 3


def test_counts_are_of_training_rows_and_of_the_agreed_columns(roles_ready, code_of):
    world, _ = roles_ready
    run = world.node("tax-1").run
    counts = run.counts()
    assert all(c.sum() == len(release_of(world, "tax-1").slots) for c in counts.values())
    assert set(counts) == {f"count.{c}" for c in run.table.schema.columns}
    other = replace(run.plan, schemas={**run.plan.schemas, "tax": Schema(("a",), ())})
    assert code_of(lambda: NodeRun(run.home, other, run.roster).counts()) == "schema_mismatch"


def test_members_of_a_role_have_the_same_features_from_the_same_counts(roles_ready):
    world, _ = roles_ready
    maps = [json.dumps(world.node(f"tax-{i}").run.features.to_json()) for i in (1, 2, 3)]
    assert maps[0] == maps[1] == maps[2]
    world.home("tax-1").remove("features.json")
    with pytest.raises(Exception, match="no_counts"):
        _ = world.restart("tax-1").run.features


def test_kept_scores_are_bounded_and_nothing_is_said_of_customers_too_few_know(finished):
    world, _ = finished
    run = world.node("tax").run
    placed = run.placed_scores()
    assert placed.shape == (640, 3)
    assert 0 < np.abs(placed).max() <= 8
    said = np.zeros(640, bool)
    said[run.spine.slots[run.spine.enough]] = True
    assert (placed[~said] == 0).all()
    assert 0 < said.sum() < len(run.spine.slots)
    views = np.sum(list(read_membership(world.home("bank")).known.values()), axis=0)
    assert (views[run.spine.slots[~run.spine.enough]] < world.job.plan.min_views).all()


def test_scores_need_gains_and_gains_need_training(ready, code_of):
    run = ready[0].node("tax").run
    assert code_of(lambda: run.scores({"tier": 1.0, "invest": 1.0})) == "no_scores"


def test_partner_trees_are_added_by_the_plan_alone_and_kept_with_the_encoder(finished):
    world, _ = finished
    run = world.node("tax").run
    learner = run.training.learner
    run.training.refresh()
    with_trees = NodeRun(run.home, replace(run.plan, learning=replace(run.plan.learning, trees="always")), run.roster)
    plain, _, none = run.judge_scores(learner)
    added, gains, trees = with_trees.judge_scores(learner)
    assert (plain != added).any()
    assert none is None
    assert set(gains) == set(trees) == {"tier", "invest"}
    scorer = replace(run.scorer(), kept=learner.kept, gains=gains, trees=trees)
    others = ~run.released()[1]
    said = PartnerScorer.from_bytes(scorer.to_bytes()).scores(run.table)[others]
    assert np.array_equal(said, weigh(added, gains, scorer.means, run.plan.tasks)[others])
    halved = PartnerScorer.from_bytes(replace(scorer, trees={}).to_bytes()).scores(run.table)[others]
    assert np.array_equal(halved, weigh(plain / 2, gains, scorer.means, run.plan.tasks)[others]), "no label for a tree"
