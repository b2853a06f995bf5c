"""An MLflow run that is opened once training is under way.

Importing mlflow and opening its store takes seconds during which nothing could be shown; so the first calls wait,
and the run is opened by the second round, or on leaving the block, whichever comes first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedprofile.errors import FedprofileError
from fedprofile.mlflow_io.tracking import TrackingRun

log = logging.getLogger(__name__)


class DeferredRun:
    """As TrackingRun; ``start`` opens it. An interrupt before that still leaves a run marked KILLED."""

    def __init__(self, start: Callable[[], TrackingRun]) -> None:
        self._start = start
        self._run: TrackingRun | None = None
        self._waiting: list[Callable[[TrackingRun], None]] = []
        self._rounds = 0

    @property
    def run_id(self) -> str:
        return self._opened().run_id

    def log_config(self, resolved: Mapping[str, Any], sha256: str) -> None:
        self._later(lambda run: run.log_config(resolved, sha256))

    def log_dataset(self, name: str, digest: str, schema: Mapping[str, Mapping[str, str]]) -> None:
        self._later(lambda run: run.log_dataset(name, digest, schema))

    def log_round(self, t: int, values: Mapping[str, float]) -> None:
        self._rounds += 1
        self._later(lambda run: run.log_round(t, values))
        if self._rounds > 1:
            self._opened()

    def log_report(self, report: Mapping[str, Any], folder: Path) -> None:
        self._opened().log_report(report, folder)

    def log_model(self, bundle: Path, register: bool, model_name: str = "fedprofile") -> str | None:
        return self._opened().log_model(bundle, register, model_name)

    def _later(self, call: Callable[[TrackingRun], None]) -> None:
        if self._run is None:
            self._waiting.append(call)
        else:
            call(self._run)

    def _opened(self) -> TrackingRun:
        if self._run is None:
            self._run = self._start()
            for call in self._waiting:
                call(self._run)
            self._waiting.clear()
        return self._run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            run = self._opened()
        except FedprofileError as unusable:
            if error is None:
                raise
            if error is not unusable:  # what ended the block is what the user must see
                log.error("%s", unusable)
            return
        run.__exit__(kind, error, trace)
