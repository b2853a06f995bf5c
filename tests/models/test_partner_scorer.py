"""What a partner keeps scores others as the finished run scored rows that it did not train on."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedprofile.errors import DataError
from fedprofile.models.partner_scorer import PartnerScorer


@pytest.fixture
def run(finished):
    return finished[0].node("tax").run


def test_it_scores_as_the_run_did_and_from_its_bytes_alone(run):
    kept = PartnerScorer.from_bytes(run.scorer().to_bytes())
    placed, (_, train) = run.placed_scores()[run.spine.slots], run.released()
    others = ~train & run.spine.enough
    assert others.sum() > 50
    assert np.array_equal(kept.scores(run.table)[others], placed[others])
    # By themselves they are another matrix, whose product may be added up in another order: float32's last digits.
    assert kept.scores(run.table.take(others)) == pytest.approx(placed[others], abs=1e-5)
    assert kept.to_bytes() == run.scorer().to_bytes()


def test_no_customer_and_no_label_is_in_it(run):
    data = run.scorer().to_bytes()
    assert not any(str(i).encode() in data for i in run.table.ids)
    assert b"label" not in data


def _changed(data, **facts):
    size = int.from_bytes(data[:8], "little")
    held = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["scorer"])
    return save(load(data), {"scorer": json.dumps(held | facts)})


def _with(data, change):
    size = int.from_bytes(data[:8], "little")
    tensors = load(data)
    change(tensors)
    return save(tensors, json.loads(data[8 : 8 + size])["__metadata__"])


BAD = {
    "nothing": lambda data: b"",
    "cut": lambda data: data[:-1],
    "no length": lambda data: b"\xff" * 8 + data[8:],
    "no metadata": lambda data: save(load(data)),
    "another version": lambda data: _changed(data, version=2),
    "another network": lambda data: _changed(data, plan={"hidden": 9}),
    "no features": lambda data: _changed(data, features={"version": 1}),
    "gains of another task": lambda data: _changed(data, gains={"other": 1.0}),
    "no snapshot": lambda data: _with(data, lambda t: t.pop("best/tier")),
    "a prior too long": lambda data: _with(data, lambda t: t.update({"prior/tier": np.ones(4)})),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_other_bytes_are_refused(run, change):
    with pytest.raises(DataError, match="not what a partner keeps"):
        PartnerScorer.from_bytes(change(run.scorer().to_bytes()))
