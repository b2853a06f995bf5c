from dataclasses import replace

import numpy as np
import pytest

from fedprofile.label_owner.judging import judge_tasks
from fedprofile.report.schema import validate
from fedprofile.simulation.statements import describe_run, statements


def said(world, **plan):
    return " ".join(statements(world.config, replace(world.job.plan, **plan)))


def test_what_is_simulated_is_always_said(world):
    text = said(world)
    assert all(w in text for w in ("Consent was simulated", "Secrets were simulated"))
    world.config.federation.secrets = "/keys"
    assert "Secrets were simulated" not in said(world)


@pytest.mark.parametrize(
    ("mode", "first", "told"),
    [
        ("psi", "Alignment was private set intersection", "which partner knows which of its customers"),
        ("union", "Alignment was a union", "no partner was told which of its"),
        ("plain", "Alignment was plain", "a hash of every id"),
        ("simulated", "Alignment was simulated", "no id crossed the wire"),
    ],
)
def test_how_customers_were_aligned_and_what_that_told_whom(world, mode, first, told):
    world.config.align.mode = mode
    text = said(world)
    assert (first in text, told in text, text.count("Alignment was")) == (True, True, 1)


def test_what_is_not_protected_is_said_where_it_is_so_and_only_there(world):
    marks = ("secure=none", "label_eps=null", "min_hidden=1", "overlap=0.4")
    assert not [m for m in marks if m in said(world)]
    assert "privacy=none" in said(world)
    world.config.federation.overlap = 0.4
    world.config.secure.profile, world.config.secure.min_hidden, world.config.fusion.min_views = "none", 1, 1
    assert all(m in said(world, label_eps=None) for m in marks)


def test_who_vouches_for_shared_weights_is_said_either_way(world):
    assert "recomputed each shared model" in said(world)
    assert "not prevented" not in said(world)
    assert "secure.verify=auto came to none" in said(world, recompute=False)
    assert "crafted weights that turn a sum into data of one node are not prevented" in said(world, recompute=False)


def test_how_pair_keys_were_agreed_is_said_either_way(world):
    assert "one day breaks X25519" in said(world)
    world.config.secure.kem = "x25519_mlkem768"
    assert "one day breaks X25519" not in said(world)
    assert "if X25519 or ML-KEM-768 falls, not both" in said(world)


def test_a_resilient_run_says_what_it_gives_up(world):
    assert "accept_differencing" not in said(world)
    world.config.secure.profile, world.config.secure.accept_differencing = "resilient", True
    assert "secure.accept_differencing=true" in said(world)
    assert "came to none" in said(world, recompute=False)


def test_the_report_is_as_documented_and_shows_no_customer(finished, fused):
    world, outcome = finished
    found = {
        "summaries": outcome.summaries,
        "openings": outcome.openings,
        "wire": {"up": outcome.wire.up, "down": outcome.wire.down},
    }
    (world.root / ".hydra").mkdir()
    (world.root / ".hydra/overrides.yaml").write_text("[run.dir=x, seed=0, 'tracking.uri=mysql://me:hunter2@host/db']")
    report = describe_run(
        config=world.config, federation=world.federation, nodes=world.dealt, plan=world.job.plan, fusion=fused,
        tasks=judge_tasks(fused, None, world.job.plan.tasks, 20, 0), outcome=found, run_dir=world.root,
        mlflow_run_id=None, seconds={"rounds": 1.0},
    )  # fmt: skip
    validate(report)
    assert "EXAMPLE" not in str(report)
    assert report["run"]["command"] == "fedprofile train seed=0 tracking.uri=mysql://***@host/db"
    assert report["privacy"]["label_eps_total"] == 4.0
    assert report["privacy"]["customers_released"] == fused.data.train.sum()
    assert sum(report["data"]["split"].values()) == report["data"]["customers"] == 600
    assert [p["customers_known"] for p in report["data"]["parties"]] == [600, 480, 480]
    assert np.shape(report["learning_curve"]["loss"]["tier"]) == (2,)
    assert not [w for w in report["warnings"] if "clipped" in w]
    clipped = [s | {"saturated": 3.0} for s in outcome.summaries]
    report = describe_run(
        config=world.config, federation=world.federation, nodes=world.dealt, plan=world.job.plan, fusion=fused,
        tasks={}, outcome=found | {"summaries": clipped}, run_dir=world.root, mlflow_run_id=None, seconds={},
    )  # fmt: skip
    assert [w for w in report["warnings"] if w.startswith("6 values")]
