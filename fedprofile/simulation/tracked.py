"""Where a run is tracked: its own MLflow run, found again on resume; the parent of a sweep; or nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedprofile.config.compose import config_hash
from fedprofile.config.folder import home
from fedprofile.config.schema import Config
from fedprofile.mlflow_io import tracking
from fedprofile.mlflow_io.deferred import DeferredRun
from fedprofile.mlflow_io.tracking import NullRun, TrackingRun, default_uri, open_parent
from fedprofile.registry.provenance import git_commit

Tracked = DeferredRun | NullRun
_FILE = "tracking.json"


@contextmanager
def open_sweep(config: Config) -> Iterator[str | None]:
    """The MLflow run under which the jobs of a sweep are nested; yields its id, None without tracking."""
    if not config.tracking.enabled:
        yield None
        return
    with open_parent(_uri(config), config.tracking.experiment, f"sweep {config.data.source}", {}) as run:
        yield run.run_id


@contextmanager
def tracked(config: Config, run_dir: Path, tasks: int, parent: str | None, resumed: bool) -> Iterator[Tracked]:
    """The run's own MLflow run, nested under ``parent``; a resumed run goes on in the store that it began in."""
    if not config.tracking.enabled:
        with NullRun() as nothing:
            yield nothing
        return
    kept = run_dir / _FILE
    # the default store lies under FEDPROFILE_HOME, which may be another by now
    before = json.loads(kept.read_text()) if resumed and kept.exists() else {}
    uri = str(before.get("uri", _uri(config)))
    name = run_dir.name if parent is None else f"{run_dir.parent.name}/{run_dir.name}"

    def start() -> TrackingRun:
        place = (uri, config.tracking.experiment, name, _tags(config, tasks))
        run = TrackingRun.open(*place, parent=parent, resume=before.get("run_id"))
        kept.touch(mode=0o600)  # a store's URI may hold its password
        kept.write_text(json.dumps({"uri": uri, "run_id": run.run_id}))
        return run

    with DeferredRun(start) as run:
        yield run


def _tags(config: Config, tasks: int) -> dict[str, str]:
    eps = config.privacy.label_eps
    tags = {
        tracking.SECURE_PROTOCOL: f"fps1/{config.secure.profile}",
        tracking.PRIVACY_EPSILON: "none" if eps is None else str(eps * tasks),
        tracking.CONFIG_SHA256: config_hash(config),
    }
    commit = git_commit()
    return tags | ({tracking.GIT_SHA: commit} if commit else {})


def _uri(config: Config) -> str:
    return config.tracking.uri or default_uri(home())
