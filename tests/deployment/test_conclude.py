"""A bundle is of one training that has ended, or there is none."""

from __future__ import annotations

import pytest

from fedprofile.deployment.label_owner import conclude
from fedprofile.errors import UsageError
from fedprofile.label_owner import evaluate
from fedprofile.label_owner.party import SHARED_MODEL


def test_a_training_whose_model_never_came_home_is_not_concluded(finished, tmp_path):
    home = finished[0].home("bank")
    home.remove(SHARED_MODEL)
    with pytest.raises(UsageError, match="no training has ended"):
        conclude(home, tmp_path / "out", None)


def test_a_training_that_begins_meanwhile_leaves_no_bundle(finished, tmp_path, monkeypatch):
    home = finished[0].home("bank")

    def fuse(*_args):
        home.clear_run()
        home.write("plan.json", b"another")

    monkeypatch.setattr(evaluate, "fuse", fuse)
    with pytest.raises(UsageError, match="another training began"):
        conclude(home, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
