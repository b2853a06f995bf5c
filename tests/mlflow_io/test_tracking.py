from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fedprofile.errors import UsageError
from fedprofile.mlflow_io import tracking
from fedprofile.mlflow_io.tracking import NullRun, TrackingRun, open_parent

TAGS = {tracking.GIT_SHA: "abc123", tracking.SECURE_PROTOCOL: "fps1/strict", tracking.PRIVACY_EPSILON: "2"}
SHA = "5f" * 32
CONFIG = {"data": {"name": "nhanes"}, "seed": 0, **{f"k{i}": i for i in range(150)}}
EXAMPLE = Path(__file__).parents[1] / "report" / "example_report.json"


def _open(uri: str, **more: Any) -> TrackingRun:
    return TrackingRun.open(uri, "study", "job", TAGS, **more)


def _train(run: TrackingRun, error: BaseException) -> None:
    with run:
        run.log_config(CONFIG, SHA)
        run.log_dataset("nhanes", "ab" * 32, {"bank": {"income": "numeric"}})
        for t in range(3):
            run.log_round(t, {"loss": float(t)})
        raise error


def _steps(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run_id, key)]


def test_one_finished_run_with_its_config_and_tags(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with _open(uri) as run:
        run.log_config(CONFIG, SHA)
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert [r.info.run_id for r in found] == [run.run_id]
    data = found[0].data
    assert found[0].info.status == "FINISHED"
    assert data.params == {"data.name": "nhanes", "seed": "0", **{f"k{i}": str(i) for i in range(150)}}
    assert TAGS.items() <= data.tags.items()
    assert data.tags["config.sha256"] == SHA
    config = Path(client.download_artifacts(run.run_id, "config.json"))
    assert json.loads(config.read_text()) == CONFIG
    # the user's own MLflow settings are left alone
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (ValueError(), "FAILED"), (SystemExit(1), "FAILED")]
)
def test_the_run_says_how_it_ended(uri: str, error: BaseException, status: str) -> None:
    run = _open(uri)
    assert MlflowClient(uri).get_run(run.run_id).info.status == "RUNNING"
    with pytest.raises(type(error)):
        _train(run, error)
    assert MlflowClient(uri).get_run(run.run_id).info.status == status


def test_a_sweep_is_a_parent_with_nested_children(uri: str) -> None:
    with open_parent(uri, "study", "sweep", TAGS) as parent:
        children = []
        for _ in range(2):
            with _open(uri, parent=parent.run_id) as child:
                children.append(child.run_id)
    client = MlflowClient(uri)
    where = [client.get_experiment_by_name("study").experiment_id]
    nested = client.search_runs(where, f"tags.mlflow.parentRunId = '{parent.run_id}'")
    assert {r.info.run_id for r in nested} == set(children)
    assert len(client.search_runs(where)) == 3


def test_a_round_is_one_batch(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _open(uri) as run:
        batches = []
        real = run._client.log_batch
        monkeypatch.setattr(run._client, "log_batch", lambda *a, **k: (batches.append(a), real(*a, **k)))
        for t in range(3):
            run.log_round(t, {"loss": 1.0 / (t + 1), "loss/tier": 0.5, "update norm": 2.0})
    assert len(batches) == 3
    assert set(MlflowClient(uri).get_run(run.run_id).data.metrics) == {
        "round/loss",
        "round/loss/tier",
        "round/update norm",
    }
    assert _steps(uri, run.run_id, "round/loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


def test_resuming_continues_the_same_run_and_rewrites_no_step(uri: str) -> None:
    run = _open(uri)
    with pytest.raises(KeyboardInterrupt):
        _train(run, KeyboardInterrupt())
    with _open(uri, resume=run.run_id) as again:
        assert MlflowClient(uri).get_run(run.run_id).info.status == "RUNNING"
        again.log_config(CONFIG, SHA)
        again.log_dataset("nhanes", "ab" * 32, {"bank": {"income": "numeric"}})
        for t in range(5):
            again.log_round(t, {"loss": 100.0 + t})
    assert again.run_id == run.run_id
    assert len(MlflowClient(uri).get_run(run.run_id).inputs.dataset_inputs) == 1
    assert _steps(uri, run.run_id, "round/loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 103.0), (4, 104.0)]
    assert MlflowClient(uri).get_run(run.run_id).info.status == "FINISHED"


def test_resuming_with_another_config_is_refused(uri: str) -> None:
    with _open(uri) as run:
        run.log_config(CONFIG, SHA)
    with pytest.raises(UsageError, match="another configuration"), _open(uri, resume=run.run_id) as again:
        again.log_config({**CONFIG, "seed": 1}, "00" * 32)


@pytest.mark.parametrize("which", ["parent", "resume"])
def test_an_unknown_or_deleted_run_is_refused(uri: str, which: str) -> None:
    with pytest.raises(UsageError, match="not in this store"):
        _open(uri, **{which: "0" * 32})
    with _open(uri) as run:
        pass
    MlflowClient(uri).delete_run(run.run_id)
    with pytest.raises(UsageError, match="is deleted"):
        _open(uri, **{which: run.run_id})


def test_a_data_set_is_logged_by_schema_and_digest_only(uri: str) -> None:
    schema = {"bank": {"income": "numeric", "job": "categorical"}, "tax": {"income": "numeric"}}
    with _open(uri) as run:
        run.log_dataset("nhanes", "ab" * 32, schema)
    (given,) = MlflowClient(uri).get_run(run.run_id).inputs.dataset_inputs
    assert given.dataset.name == "nhanes"
    assert given.dataset.digest == ("ab" * 32)[:36]
    assert given.dataset.source_type == "private"
    assert json.loads(given.dataset.source) == {"source": "private"}
    assert json.loads(given.dataset.profile) == {"sha256": "ab" * 32}
    columns = json.loads(given.dataset.schema)["mlflow_colspec"]
    assert [(c["name"], c["type"]) for c in columns] == [
        ("bank.income", "double"),
        ("bank.job", "string"),
        ("tax.income", "double"),
    ]
    assert "/" not in json.dumps([v for v in vars(given.dataset).values() if isinstance(v, str)])


def test_the_report_becomes_metrics_and_artefacts_without_predictions(uri: str, tmp_path: Path) -> None:
    report = json.loads(EXAMPLE.read_text())
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("report.json", "report.html", "reliability.png", "predictions.parquet", "state.safetensors"):
        (folder / name).write_text("x")
    with _open(uri) as run:
        run.log_report(report, folder)
    client = MlflowClient(uri)
    assert sorted(f.path for f in client.list_artifacts(run.run_id, "report")) == [
        "report/reliability.png",
        "report/report.html",
        "report/report.json",
    ]
    metrics = client.get_run(run.run_id).data.metrics
    task = next(iter(report["tasks"]))
    assert metrics[f"{task}.federated.auc"] == report["tasks"][task]["models"]["federated"]["auc"]


def test_no_tracking_has_every_method_and_keeps_nothing(tmp_path: Path) -> None:
    public = {name for name in vars(TrackingRun) if not name.startswith("_") and name != "open"}
    assert public <= set(dir(NullRun))
    with NullRun() as run:
        run.log_config(CONFIG, SHA)
        run.log_round(0, {"loss": 1.0})
        run.log_report({}, tmp_path)
        run.log_tasks({})
        assert run.log_model(tmp_path, register=True) is None


def test_importing_the_room_does_not_import_mlflow() -> None:
    code = (
        "import sys, fedprofile.mlflow_io.tracking, fedprofile.mlflow_io.ui, fedprofile.mlflow_io.model;"
        "sys.exit(bool({'mlflow', 'pandas', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
