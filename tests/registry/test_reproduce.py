"""What counts as the same model: one digit of a metric, one bit of a tensor, one fact."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedprofile.label_owner.judging import SKIPPED, judge_tasks
from fedprofile.registry.bundle import Bundle, open_bundle, write_bundle
from fedprofile.registry.describing import Origin, describe_model
from fedprofile.registry.reproduce import FACTS, TOLERANCE, compare
from fedprofile.secagg.identity import Identity


@pytest.fixture(scope="module")
def bundle(finished_once: Any, fused: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    world, folder = finished_once[0], tmp_path_factory.mktemp("bundle") / "one"
    home, plan = world.home("bank"), world.job.plan
    tasks = judge_tasks(fused, None, plan.tasks, 20, 0, SKIPPED)
    meta = describe_model(home, plan, world.job.roster, fused, tasks, Origin())
    write_bundle(folder, fused.fused, meta, {"head": fused.sums}, Identity.from_seed(home.derive("identity")))
    return open_bundle(Path(folder))


def with_meta(bundle: Bundle, change: Any) -> Bundle:
    meta = copy.deepcopy(dict(bundle.meta))
    change(meta)
    return replace(bundle, meta=meta)


def test_a_bundle_reproduces_itself_to_the_bit(bundle: Bundle) -> None:
    done = compare(bundle, bundle)
    assert done.identical
    assert done.reproduced
    assert done.metrics
    assert {f.what for f in done.tensors} > {"shared.head"}
    assert done.to_json()["manifests"] == [bundle.seal.manifest] * 2


@pytest.mark.parametrize(("by", "reproduced"), [(TOLERANCE / 2, True), (TOLERANCE * 2, False)])
def test_a_metric_may_differ_by_last_digits_and_it_is_said(bundle: Bundle, by: float, reproduced: bool) -> None:
    def change(meta: dict[str, Any]) -> None:
        meta["metrics"]["tier"]["federated"]["auc"] += by

    done = compare(bundle, with_meta(bundle, change))
    assert (done.reproduced, done.identical) == (reproduced, False)
    (differs,) = [f for f in done.metrics if not f.equal]
    assert differs.what == "tier.federated.auc"
    assert differs.largest == pytest.approx(by)


def test_a_metric_that_is_gone_or_undefined_is_no_small_difference(bundle: Bundle) -> None:
    for undo in (lambda m: m.pop("auc"), lambda m: m.update(auc=None)):
        assert not compare(
            bundle, with_meta(bundle, lambda meta, u=undo: u(meta["metrics"]["tier"]["federated"]))
        ).reproduced


@pytest.mark.parametrize("fact", FACTS)
def test_another_fact_is_another_model(bundle: Bundle, fact: str) -> None:
    done = compare(bundle, with_meta(bundle, lambda meta: meta.update({fact: "other"})))
    assert not done.reproduced
    assert [f.what for f in done.facts if not f.equal] == [fact]


def test_bits_of_a_tensor_may_differ_where_no_metric_does(bundle: Bundle) -> None:
    head = bundle.shared["head"].copy()
    head.flat[0] += 1e-3
    done = compare(bundle, replace(bundle, shared={"head": head}))
    assert (done.reproduced, done.identical) == (True, False)
    (differs,) = [f for f in done.tensors if not f.equal]
    assert differs.largest == pytest.approx(1e-3, rel=1e-3)
    gone = compare(bundle, replace(bundle, shared={}))
    assert [f.largest for f in gone.tensors if not f.equal] == [None]


def test_other_code_and_missing_encoders_are_said(bundle: Bundle) -> None:
    silent = with_meta(
        bundle,
        lambda meta: (
            meta["encoders"]["tax"].update(digest=None) or meta.update(code={"version": "0.0.1", "commit": None})
        ),
    )
    notes = compare(silent, bundle).notes
    assert any("version 0.0.1, commit unknown" in note for note in notes)
    assert any("encoders of the partners were not compared" in note for note in notes)
