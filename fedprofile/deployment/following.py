"""Following a training at the coordinator: its progress as it comes, its round sums into MLflow, its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.config.compose import config_hash, resolved
from fedprofile.config.folder import home
from fedprofile.config.schema import Config
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.deployment.coordinator import FLOWER_RUN, Coordinator, training_state
from fedprofile.errors import DeploymentError, FedprofileError
from fedprofile.flower.server_app import AWAY_S
from fedprofile.types import Progress

if TYPE_CHECKING:
    from fedprofile.mlflow_io.tracking import TrackingRun

_LOOK_S = 0.5
_TRACKING = "tracking.json"


def follow(coordinator: Coordinator, folder: Path, observe: Callable[[Progress, tuple[str, ...]], None]) -> None:
    """Until the training has ended. ``observe`` gets each new step, and who has not approved the plan yet.

    Raises FedprofileError with the ServerApp's own reason where the training failed or was stopped, DeploymentError
    where SuperLink is away for as long as the ServerApp waits for it. A keyboard interrupt leaves the training
    running: this only looks.
    """
    away_since: float | None = None
    with _Tracking(coordinator.config(folder), folder) as track:
        flower_run, shown = int((folder / FLOWER_RUN).read_text()), {}
        while True:
            state = training_state(folder)
            if state["state"] == "running" and "at" in state and state != shown:
                shown = state
                step = Progress(state["stage"], state["round"], state["rounds"], state["loss"])
                observe(step, tuple(state.get("waiting", ())))
                track(step)
            if state["state"] == "finished":
                track(Progress("finish"))
                return
            try:
                if coordinator.link.run(flower_run).finished:
                    break
                away_since = None
            except DeploymentError:
                if state["state"] == "failed":
                    break
                away_since = away_since or time.monotonic()
                if time.monotonic() > away_since + AWAY_S:
                    raise
            time.sleep(_LOOK_S)
        state = training_state(folder)
        if state["state"] != "finished":
            raise FedprofileError(
                state.get("what", "the training was stopped"),
                state.get("mend") or f"Look at it: `fedprofile coordinator status {coordinator.folder}`.",
            )
        track(Progress("finish"))


class _Tracking:
    """The coordinator's MLflow run: configuration and round sums. Quality is the bank's to log, in its own store."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.run: TrackingRun | None = None

    def __enter__(self) -> _Tracking:
        if self.config.tracking.enabled:
            from fedprofile.mlflow_io import tracking

            kept = self.folder / _TRACKING
            uri = self.config.tracking.uri or tracking.default_uri(home())
            before = json.loads(kept.read_text())["run_id"] if kept.exists() else None
            tags = {tracking.SECURE_PROTOCOL: f"fps1/{self.config.secure.profile}"}
            place = (uri, self.config.tracking.experiment, f"coordinator {self.folder.name}", tags)
            self.run = tracking.TrackingRun.open(*place, resume=before)
            self.run.__enter__()
            kept.touch(mode=0o600)
            kept.write_text(json.dumps({"uri": uri, "run_id": self.run.run_id}))
            self.run.log_config(resolved(self.config), config_hash(self.config))
        return self

    def __exit__(self, *error: Any) -> None:
        if self.run is not None:
            self.run.__exit__(*error)

    def __call__(self, step: Progress) -> None:
        """Log the rounds that were opened since; those already in the run are left as they are."""
        if self.run is None or step.stage not in ("rounds", "finish"):
            return
        for summary in CheckpointStore(self.folder).load().summaries:
            self.run.log_round(int(summary["t"]), {k: v for k, v in summary.items() if k != "t"})
