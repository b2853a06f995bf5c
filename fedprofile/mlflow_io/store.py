"""Which MLflow store a run goes to, and where its artefacts lie. Importing this does not import mlflow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.errors import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

KEY = "tracking.uri"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


def default_uri(home: Path) -> str:
    """The SQLite store under ``home``: ``sqlite:////abs/mlflow.db``, its artefacts in ``mlartifacts`` beside it."""
    return f"sqlite:///{home.expanduser().resolve() / 'mlflow.db'}"


def sqlite_path(uri: str) -> Path | None:
    """The absolute file of an SQLite store, None for any other kind; ConfigError where it is relative or in memory."""
    if not uri.startswith("sqlite:"):
        return None
    path = Path(uri.removeprefix("sqlite:///").split("?")[0])
    if not uri.startswith("sqlite:///") or not path.is_absolute():
        # MLflow resolves a relative file against the working directory of whoever opens it
        raise ConfigError(
            KEY,
            "an SQLite store needs an absolute path",
            "Write sqlite:////absolute/path/mlflow.db (four slashes), or leave the key out for the default.",
        )
    return path


def check_uri(uri: str) -> str:
    """``uri`` itself if a run can go there. The URI may hold a password, so that no error repeats it.

    Raises ConfigError for a relative SQLite path, a plain path or ``file:`` store, and an unknown scheme.
    """
    scheme = uri.split(":", 1)[0].split("+", 1)[0] if ":" in uri else ""
    if scheme in ("", "file"):
        raise ConfigError(
            KEY,
            "MLflow's file store is in maintenance mode and refuses to start, and it has no model registry to rely on",
            "Use sqlite:////absolute/path/mlflow.db, or the URL of an MLflow server.",
        )
    if scheme not in SCHEMES:
        raise ConfigError(KEY, f"unknown scheme {scheme!r}", f"Use one of {', '.join(SCHEMES)}, or tracking=none.")
    sqlite_path(uri)
    return uri


def without_password(text: str) -> str:
    """``text`` with the user and password of every URI in it replaced by stars: what may be logged and shown."""
    return re.sub(r"(\w://)[^/\s@]*@", r"\1***@", text)


def artifact_root(uri: str) -> Path | None:
    """The folder of artefacts beside an SQLite file; None where a server or database has its own root."""
    path = sqlite_path(uri)
    return None if path is None else path.parent / "mlartifacts"


def quiet_mlflow() -> Any:
    """The mlflow module, without telemetry and without the log lines of its database migrations."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    import logging

    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    return mlflow


def open_client(uri: str) -> MlflowClient:
    """A client of the store, whose tables exist afterwards; ConfigError where MLflow cannot use it."""
    path = sqlite_path(check_uri(uri))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    mlflow = quiet_mlflow()
    with _store_errors():
        client: MlflowClient = mlflow.MlflowClient(tracking_uri=uri)
    return client


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment's id, created with an absolute artefact location if new.

    Raises ConfigError where the store cannot be used or the experiment lies in MLflow's trash.
    """
    root = artifact_root(uri)
    location = None if root is None else str(root / _folder_name(name))
    with _store_errors():
        found = client.get_experiment_by_name(name) or _create(client, name, location)
    if found.lifecycle_stage != "active":
        mend = "Restore it in MLflow (`mlflow experiments restore`) or choose another name."
        raise ConfigError("tracking.experiment", f"{name!r} is deleted", mend)
    return str(found.experiment_id)


def _create(client: MlflowClient, name: str, location: str | None) -> Experiment:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        # another job of the same sweep may have created it in between
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found


@contextmanager
def _store_errors() -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:
        raise ConfigError(
            KEY, "the Python driver of this database is not installed", f"pip install {error.name}."
        ) from error
    except (MlflowException, SQLAlchemyError) as error:
        code = getattr(error, "error_code", type(error).__name__)
        mend = (
            "Check that it exists, is writable and fits this MLflow (`mlflow db upgrade`), or run with tracking=none."
        )
        raise ConfigError(KEY, f"MLflow cannot use this store ({code})", mend) from error


def _folder_name(experiment: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in experiment).lstrip(".") or "experiment"
