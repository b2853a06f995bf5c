"""One MLflow database a session, copied for each test: a fresh one costs seconds of migrations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fedprofile.mlflow_io.tracking import TrackingRun, default_uri
from fedprofile.models.bank import BankData, fit_bank
from fedprofile.models.fusion import fit_fusion
from fedprofile.registry.bundle import write_bundle
from fedprofile.secagg.identity import Identity
from fedprofile.types import Table, Task

PLAN = "ab" * 32


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("mlflow")
    with TrackingRun.open(default_uri(home), "warm-up", "warm-up", {}):
        pass
    return home / "mlflow.db"


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return default_uri(tmp_path)


@pytest.fixture(scope="session")
def bank_table() -> Table:
    """300 made-up customers: two numbers, of which one has gaps, and a category with gaps."""
    rng = np.random.default_rng(7)
    income = rng.normal(size=300)
    age = np.where(rng.random(300) < 0.2, np.nan, rng.normal(40, 9, 300))
    job = np.array([None, "clerk", "nurse", "smith"], dtype=object)[rng.integers(4, size=300)]
    ids = np.array([f"c{i}" for i in range(300)])
    return Table(ids, {"income": income, "age": age, "job": job}, frozenset({"job"}))


@pytest.fixture(scope="session")
def bundle(bank_table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real fused model of a three-level tier and a need, sealed in a folder."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(8)
    tasks = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
    hidden = bank_table.columns["income"] + rng.normal(scale=0.5, size=300)
    labels = {"tier": np.digitize(hidden, [-0.5, 0.5]).astype(np.int64), "invest": (hidden > 0).astype(np.int64)}
    part = np.arange(300) % 3
    data = BankData(bank_table, labels, part > 0, part == 0)
    known = rng.integers(2, size=(300, 2)).astype(np.float64)
    sums = known.any(1)[:, None] * (hidden[:, None] + rng.normal(scale=0.3, size=(300, 3)))
    model = fit_fusion(data, fit_bank(data, tasks, 0), sums, known, tasks, 0, parts=("linear",))
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    word = {"digest": "cd" * 32, "signature": "ef" * 64}
    meta = {"roles": ["tax", "medical"], "plan": PLAN, "encoders": {"tax": word, "medical": word}}
    write_bundle(folder, model, meta, {}, Identity.from_seed(bytes(32)))
    return folder
