"""One MLflow run a job: config, data-set inputs, one batch a round, the report and the model.

Experiment = study, run = job; a sweep is a parent run with nested children. Metrics of rounds come from
masked sums only. Nothing is patched: no autologging, no system metrics, no global active run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fedprofile.errors import UsageError
from fedprofile.mlflow_io import flatten
from fedprofile.mlflow_io.store import check_uri, default_uri, experiment_id, open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["NullRun", "TrackingRun", "default_uri", "open_parent"]

GIT_SHA = "git.sha"
CONFIG_SHA256 = "config.sha256"
SECURE_PROTOCOL = "secure.protocol"
PRIVACY_EPSILON = "privacy.epsilon"
ROUND = "round/"

_PARENT = "mlflow.parentRunId"
_MAX_PARAMS_A_BATCH = 100
_MAX_METRICS_A_BATCH = 1000
_MAX_DIGEST = 36


class TrackingRun:
    """One MLflow run, ended on leaving the ``with`` block.

    FINISHED when the block ends, KILLED on KeyboardInterrupt, FAILED on any other exception.
    """

    def __init__(self, client: MlflowClient, uri: str, run_id: str, last_step: int, resumed: bool) -> None:
        self._client = client
        self._uri = uri
        self._last = last_step
        self._resumed = resumed
        self.run_id = run_id

    @classmethod
    def open(
        cls,
        uri: str,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        parent: str | None = None,
        resume: str | None = None,
    ) -> Self:
        """Start a run in ``experiment``, nested in run ``parent`` if given, or reopen run ``resume``.

        A reopened run keeps its experiment, name and parent; ``tags`` are set again.
        Raises ConfigError for a store that cannot be used, UsageError where ``parent`` or ``resume`` is not in it.
        """
        client = open_client(check_uri(uri))
        where = experiment_id(client, uri, experiment)
        if resume is not None:
            _live_run(client, resume)
            client.update_run(resume, status="RUNNING")
            for key, value in tags.items():
                client.set_tag(resume, key, value)
            return cls(client, uri, resume, _last_step(client, resume), True)
        every = {"mlflow.source.name": "fedprofile", "mlflow.source.type": "LOCAL", **tags}
        if GIT_SHA in tags:
            every["mlflow.source.git.commit"] = tags[GIT_SHA]
        if parent is not None:
            _live_run(client, parent)
            every[_PARENT] = parent
        run = client.create_run(where, tags=every, run_name=name)
        return cls(client, uri, run.info.run_id, -1, False)

    def log_config(self, resolved: Mapping[str, Any], sha256: str) -> None:
        """Flat parameters, the full JSON as ``config.json``, its hash as tag ``config.sha256``.

        Raises UsageError where a resumed run was started with another config.
        """
        from mlflow.entities import Param

        if self._resumed:
            before = self._client.get_run(self.run_id).data.tags.get(CONFIG_SHA256)
            if before not in (None, sha256):
                raise UsageError(
                    "the MLflow run to continue was started with another configuration",
                    "Continue with `fedprofile train --resume DIR` and no override, or start a new run.",
                )
        items = [Param(key, value) for key, value in flatten.params(resolved).items()]
        for at in range(0, len(items), _MAX_PARAMS_A_BATCH):
            self._client.log_batch(self.run_id, params=items[at : at + _MAX_PARAMS_A_BATCH])
        self._client.log_dict(self.run_id, dict(resolved), "config.json")
        self._client.set_tag(self.run_id, CONFIG_SHA256, sha256)

    def log_dataset(self, name: str, digest: str, schema: Mapping[str, Mapping[str, str]]) -> None:
        """A data-set input by schema and digest: no path, no row count, no statistic.

        ``schema``: party -> column -> "numeric" or "categorical". ``digest``: hex SHA-256, of which MLflow
        keeps 36 characters (the whole is in the input's profile).
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        types = {"numeric": "double", "categorical": "string"}
        columns = [
            {"name": f"{party}.{column}", "type": types[kind], "required": False}
            for party, kinds in schema.items()
            for column, kind in kinds.items()
        ]
        dataset = Dataset(
            name=name,
            digest=digest[:_MAX_DIGEST],
            source_type="private",
            source=json.dumps({"source": "private"}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({"sha256": digest}),
        )
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def log_round(self, t: int, values: Mapping[str, float]) -> None:
        """One batch: ``round/<name>`` at step ``t``; a step that the run already holds is left as it is."""
        if t > self._last:
            self._log_metrics({ROUND + key: value for key, value in values.items()}, t)
            self._last = t

    def log_report(self, report: Mapping[str, Any], folder: Path) -> None:
        """Summary metrics (``tier.federated.auc`` …) one step after the last round, and three kinds of artefact.

        From ``folder``: report.json, report.html and the PNGs. Nothing else of it is copied: it holds predictions.
        Call it before ``log_model``, and the model carries the same metrics.
        """
        self._log_metrics(flatten.report_metrics(report), self._last + 1)
        for path in (folder / "report.json", folder / "report.html", *sorted(folder.glob("*.png"))):
            self._client.log_artifact(self.run_id, str(path), "report")

    def log_tasks(self, tasks: Mapping[str, Any]) -> None:
        """The summary metrics of a report's section ``tasks``, where there is no whole report."""
        self._log_metrics(flatten.task_metrics(tasks), self._last + 1)

    def log_model(self, bundle: Path, register: bool, model_name: str = "fedprofile") -> str | None:
        """Log the bundle as a models-from-code pyfunc; if ``register``, a new version with alias ``challenger``.

        Returns the version, None if not registered. Raises what ``open_bundle`` raises for a broken bundle.
        """
        from fedprofile.mlflow_io.model import log_bundle

        return log_bundle(
            self._client, self._uri, self.run_id, self._last + 1, bundle, model_name if register else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.set_terminated(self.run_id, "FINISHED" if kind is None else _failure(kind))

    def _log_metrics(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        items = [Metric(flatten.name(key), float(value), now, step) for key, value in values.items()]
        for at in range(0, len(items), _MAX_METRICS_A_BATCH):
            self._client.log_batch(self.run_id, metrics=items[at : at + _MAX_METRICS_A_BATCH])


class NullRun:
    """``tracking=none``: the methods of TrackingRun, and nothing is kept."""

    run_id = ""

    def log_config(self, resolved: Mapping[str, Any], sha256: str) -> None: ...

    def log_dataset(self, name: str, digest: str, schema: Mapping[str, Mapping[str, str]]) -> None: ...

    def log_round(self, t: int, values: Mapping[str, float]) -> None: ...

    def log_report(self, report: Mapping[str, Any], folder: Path) -> None: ...

    def log_tasks(self, tasks: Mapping[str, Any]) -> None: ...

    def log_model(self, bundle: Path, register: bool, model_name: str = "fedprofile") -> str | None:
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_parent(uri: str, experiment: str, name: str, tags: Mapping[str, str]) -> TrackingRun:
    """The parent run of a sweep; give its ``run_id`` as ``parent`` to each child, in this process or another."""
    return TrackingRun.open(uri, experiment, name, {**tags, "fedprofile.sweep": "true"})


def _failure(kind: type[BaseException]) -> str:
    return "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"


def _live_run(client: MlflowClient, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    mend = "Use the tracking.uri that the run was started with, or tracking=none."
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise UsageError(f"MLflow run {run_id!r} is not in this store", mend) from error
    if run.info.lifecycle_stage != "active":
        raise UsageError(f"MLflow run {run_id!r} is deleted", f"Restore it: `mlflow runs restore --run-id {run_id}`.")
    return run


def _last_step(client: MlflowClient, run_id: str) -> int:
    keys = [key for key in client.get_run(run_id).data.metrics if key.startswith(ROUND)]
    return max((m.step for key in keys for m in client.get_metric_history(run_id, key)), default=-1)
