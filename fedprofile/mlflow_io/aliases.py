"""What a colleague sees in MLflow of a registry: aliases, tags and gate reports follow the signed head.

MLflow's aliases have no compare-and-swap and whoever reaches the server can move them, so nothing here decides
anything. ``sync`` writes what the head says, in an order in which a cut leaves MLflow behind and never ahead; it can
be repeated. MLflow remembers the last head that it was told: a log that is shorter was put back.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.errors import ConfigError, DataError, DeploymentError, UsageError
from fedprofile.mlflow_io.standing import MANIFEST, PREFIX, Standing
from fedprofile.mlflow_io.store import check_uri, open_client, sqlite_path
from fedprofile.registry.files import read_sealed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

HEAD, CHAMPION, WATCH = PREFIX + "head", PREFIX + "champion", PREFIX + "watch"
REPORTS = "registry"
# A person waits for the answer: two tries, not MLflow's seven, and seconds, not minutes.
_LOCK_SECONDS = 1
_LATER = "When it does: fedprofile registry sync."
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def behind(uri: str, model: str, standing: Standing) -> list[str]:
    """What MLflow shows otherwise than the head says, one sentence each; empty where it follows.

    Raises DeploymentError where MLflow does not answer, DataError where it was told of a later head.
    """
    with _reached(uri) as client:
        return _behind(_registered(client, model), _versions(client, model), model, standing)


def sync(uri: str, model: str, standing: Standing) -> list[str]:
    """Make MLflow show what the head says; returns what was behind.

    Raises as ``behind``, and DataError where a version that an alias is to name holds another bundle there.
    """
    with _reached(uri) as client:
        registered, versions = _registered(client, model), _versions(client, model)
        late = _behind(registered, versions, model, standing)
        if not late:
            return late
        registered = registered or client.create_registered_model(model)
        for version, tags in standing.tags.items():
            found = versions.get(version)
            if found is None:
                continue
            # First, as equal tags say that nothing is left to do.
            _log_report(client, found, standing.reports.get(version))
            for key, value in tags.items():
                if found.tags.get(key) != value:
                    client.set_model_version_tag(model, version, key, value)
        for alias, _, wanted in _moved(registered, standing):
            if wanted is None:
                client.delete_registered_model_alias(model, alias)
            elif wanted in versions:
                _check_bundle(client, uri, model, wanted, standing.tags[wanted][MANIFEST])
                client.set_registered_model_alias(model, alias, wanted)
        client.set_registered_model_tag(model, CHAMPION, standing.champion)
        client.set_registered_model_tag(model, HEAD, _head(standing))
        return late


def fetch(uri: str, model: str, version: str, into: Path) -> Path:
    """Download a version's bundle into an empty folder; the bundle's folder. It is not verified here.

    Raises UsageError where there is no such version, DeploymentError where MLflow does not answer.
    """
    with _reached(uri) as client:
        if _version(client, model, version) is None:
            raise UsageError(f"MLflow has no version {version} of {model!r}", "Look: fedprofile ui.")
        return _download(client, uri, model, version, into)


def mark_watched(uri: str, model: str, version: str, said: str) -> None:
    """What the last watch of a version said, where a colleague sees it. Raises as ``fetch``."""
    with _reached(uri) as client:
        if _version(client, model, version) is None:
            raise UsageError(f"MLflow has no version {version} of {model!r}", "Look: fedprofile ui.")
        client.set_model_version_tag(model, version, WATCH, said)


def _download(client: MlflowClient, uri: str, model: str, version: str, into: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    where = client.get_model_version_download_uri(model, version)
    got = download_artifacts(artifact_uri=where, dst_path=str(into), tracking_uri=uri)
    bundles = [file.parent for file in Path(got).glob("artifacts/*/manifest.json")]
    if len(bundles) != 1:
        raise DataError(f"version {version}", "this MLflow model is no bundle", "Register one: `fedprofile train`.")
    return bundles[0]


def _check_bundle(client: MlflowClient, uri: str, model: str, version: str, manifest: str) -> None:
    """What MLflow serves under an alias must be what was judged. Raises DataError."""
    with tempfile.TemporaryDirectory() as folder:
        if read_sealed(_download(client, uri, model, version, Path(folder))).seal.manifest != manifest:
            mend = "Somebody changed it: restore it in MLflow; until then its alias stays where it is."
            raise DataError(f"version {version}", "MLflow holds another bundle than the one that was judged", mend)


def _behind(
    registered: RegisteredModel | None, versions: Mapping[str, ModelVersion], model: str, standing: Standing
) -> list[str]:
    if registered is None:
        return [f"there is no registered model {model!r}"]
    _check_head(registered, standing)
    late = []
    for alias, held, wanted in _moved(registered, standing):
        late.append(f"@{alias} is {_said(held)}, the head says {_said(wanted)}")
        if wanted is not None and wanted not in versions:
            late.append(f"version {wanted} is not there")
    for version, tags in standing.tags.items():
        found = versions.get(version)
        if found is not None and any(found.tags.get(key) != value for key, value in tags.items()):
            late.append(f"the tags of version {version} are behind")
    if registered.tags.get(HEAD) != _head(standing) or registered.tags.get(CHAMPION) != standing.champion:
        late.append("the head is another")
    return late


def _moved(registered: RegisteredModel, standing: Standing) -> Iterator[tuple[str, str | None, str | None]]:
    """Each alias that is not as the head says: its name, where it is, where it should be.

    A challenger that no gate has seen is left alone: `fedprofile train` has just registered it.
    """
    for alias, wanted in standing.aliases.items():
        at = registered.aliases.get(alias)
        held = None if at is None else str(at)
        if held != wanted and not (alias == "challenger" and held is not None and held not in standing.tags):
            yield alias, held, wanted


def _check_head(registered: RegisteredModel, standing: Standing) -> None:
    seq, _, head = str(registered.tags.get(HEAD, "0")).partition(" ")
    told = int(seq) if seq.isdigit() else 0
    if told > standing.seq or (told == standing.seq and told and head != standing.head):
        raise DataError(
            "promotion log",
            f"MLflow was told of line {told}, which this log lacks: it was put back, or MLflow's tag was changed",
            f"Compare with a backup. If the log is right, delete the tag {HEAD} of the registered model, then sync.",
        )


def _log_report(client: MlflowClient, version: ModelVersion, report: tuple[str, Path] | None) -> None:
    if report is None or not version.run_id:
        return
    place = f"{REPORTS}/{report[0][:16]}"
    if not client.list_artifacts(version.run_id, place):
        client.log_artifacts(version.run_id, str(report[1]), place)


def _registered(client: MlflowClient, model: str) -> RegisteredModel | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _versions(client: MlflowClient, model: str) -> dict[str, ModelVersion]:
    """All of them, by number, in a request for every thousand: over a network one each takes seconds."""
    found: dict[str, ModelVersion] = {}
    token = None
    while token != "":
        page = client.search_model_versions(f"name={_quoted(model)}", max_results=1000, page_token=token)
        found |= {str(version.version): version for version in page}
        token = page.token or ""
    return found


def _quoted(model: str) -> str:
    return f'"{model}"' if "'" in model else f"'{model}'"


def _version(client: MlflowClient, model: str, version: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(model, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _head(standing: Standing) -> str:
    return f"{standing.seq} {standing.head}"


def _said(version: Any) -> str:
    return f"version {version}" if version else "nobody"


def _check_lock(file: Path) -> None:
    """MLflow itself tries a locked database again for twenty seconds."""
    try:
        with closing(sqlite3.connect(file, timeout=_LOCK_SECONDS, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
    except sqlite3.Error as error:
        kind = error.sqlite_errorname
        raise DeploymentError(f"MLflow's database does not answer ({kind})", _LATER) from None


@contextmanager
def _reached(uri: str) -> Iterator[MlflowClient]:
    """A client that gives up within seconds. Raises DeploymentError, without the URI."""
    file = sqlite_path(check_uri(uri))
    if file is not None and not file.is_file():
        raise DeploymentError("MLflow's database is not there", "Restore it, or mend tracking in registry.json.")
    if file is not None:
        _check_lock(file)
    before = {name: os.environ.get(name) for name in _PATIENCE}
    os.environ.update(_PATIENCE)
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield open_client(uri)
        except (MlflowException, SQLAlchemyError, ConfigError, OSError) as error:
            kind = getattr(error, "error_code", type(error).__name__)
            raise DeploymentError(
                f"MLflow does not answer ({kind})", "When it does: fedprofile registry sync."
            ) from None
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
