"""A bundle is of one training that has ended, or there is none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedprofile.cli.main import main
from fedprofile.deployment.label_owner import conclude
from fedprofile.deployment.node import status
from fedprofile.errors import UsageError
from fedprofile.label_owner import evaluate
from fedprofile.label_owner.party import SCORE_SUM, SHARED_MODEL, unconcluded

CONTRACT = Path(__file__).parents[2] / "partners" / "bank" / "contract.yaml"


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


@pytest.fixture
def bank(finished):
    """The bank's home of a finished training, with its contract."""
    home = finished[0].home("bank")
    shutil.copy(CONTRACT, home.path)
    return home


def next_plan(world):
    """The bank's answer to the plan of another training."""
    plan = replace(world.job.plan, seed=world.job.plan.seed + 1)
    body = {"plan": plan.to_json().decode(), "roster": world.job.roster.to_json(), "profile": world.job.profile}
    return world.ask("bank", "plan", body)


def test_the_next_plan_waits_until_the_last_training_is_concluded(finished, bank, tmp_path):
    kept = bank.read(SCORE_SUM)
    assert status(bank)["to_conclude"] == finished[0].job.plan.hash.hex()[:12]
    assert next_plan(finished[0]).body == {"code": "not_concluded"}
    assert bank.read(SCORE_SUM) == kept
    conclude(bank, tmp_path / "out", None)
    assert status(bank)["to_conclude"] is None
    assert next_plan(finished[0]).type == "approval"
    assert bank.read(SCORE_SUM) is None


def test_or_is_dropped_by_name(finished, bank, capsys):
    assert main(["node", "conclude", str(bank.path), "--drop"]) == 0
    assert "gives no model" in capsys.readouterr().out
    assert unconcluded(bank) is None
    assert main(["node", "conclude", str(bank.path), "--drop"]) == 2
    assert "no training waits" in capsys.readouterr().err
    assert next_plan(finished[0]).type == "approval"
