"""A colleague finds the gate report at the run that it judges."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from fedprofile.governance.gates import Finding, Verdict
from fedprofile.mlflow_io.gates import log_gate
from fedprofile.mlflow_io.tracking import TrackingRun


def test_report_values_and_verdict_are_at_the_run(uri: str, tmp_path: Path) -> None:
    with TrackingRun.open(uri, "study", "job", {}) as run:
        pass
    (tmp_path / "out").mkdir()
    for name in ("gate.json", "gate.html", ".gate.json.1.partial"):
        (tmp_path / "out" / name).write_text("{}")
    findings = (Finding("auc/tier", True, 0.8, 0.6, "fine"), Finding("fairness", None, None, 0.2, "unknown"))
    log_gate(uri, run.run_id, tmp_path / "out", Verdict(False, findings, "ab" * 32, "cd" * 32))
    client = MlflowClient(tracking_uri=uri)
    assert {f.path for f in client.list_artifacts(run.run_id, "gate")} == {"gate/gate.json", "gate/gate.html"}
    data = client.get_run(run.run_id).data
    assert data.metrics == {"gate/auc/tier": 0.8}
    assert (data.tags["gate.passed"], data.tags["gate.report"], data.tags["gate.manifest"]) == (
        "false",
        "cd" * 32,
        "ab" * 32,
    )
