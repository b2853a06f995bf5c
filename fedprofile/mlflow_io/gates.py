"""The gate report in the MLflow run of the model that it judges, where a colleague finds it."""

from __future__ import annotations

import time
from pathlib import Path

from fedprofile.governance.gates import Verdict
from fedprofile.mlflow_io import flatten
from fedprofile.mlflow_io.store import check_uri, open_client

FOLDER = "gate"
PASSED, REPORT, MANIFEST = "gate.passed", "gate.report", "gate.manifest"


def log_gate(uri: str, run_id: str, folder: Path, verdict: Verdict) -> None:
    """Artefacts ``gate/``: all files of ``folder``; metrics ``gate/<name>``; tags gate.passed, .report and .manifest.

    The tags say what MLflow holds; what counts is the signed record, as MLflow guards nothing. Set last, so that a run
    that bears them has the report.
    """
    from mlflow.entities import Metric

    client, now = open_client(check_uri(uri)), int(time.time() * 1000)
    for file in sorted(folder.iterdir()):
        if not file.name.startswith("."):
            client.log_artifact(run_id, str(file), FOLDER)
    known = [f for f in verdict.findings if f.value is not None]
    client.log_batch(run_id, [Metric(flatten.name(f"gate/{f.gate}"), float(f.value or 0), now, 0) for f in known])
    for key, value in ((REPORT, verdict.report), (MANIFEST, verdict.manifest), (PASSED, str(verdict.passed).lower())):
        client.set_tag(run_id, key, value)
