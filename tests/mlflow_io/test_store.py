from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedprofile.errors import ConfigError
from fedprofile.mlflow_io.store import (
    artifact_root,
    check_uri,
    default_uri,
    experiment_id,
    open_client,
    without_password,
)


def test_default_is_absolute_wherever_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = default_uri(Path("home"))
    assert uri == f"sqlite:///{tmp_path.resolve()}/home/mlflow.db"
    assert check_uri(uri) == uri
    assert artifact_root(uri) == tmp_path.resolve() / "home" / "mlartifacts"


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("sqlite:///mlflow.db", "four slashes"),
        ("sqlite://", "four slashes"),
        ("sqlite:mlflow.db", "four slashes"),
        ("file:///tmp/mlruns", "maintenance mode"),
        ("mlruns", "maintenance mode"),
        ("", "maintenance mode"),
        ("databricks://profile", "unknown scheme"),
    ],
)
def test_unusable_uri_is_refused_with_a_mend(uri: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part) as caught:
        check_uri(uri)
    assert caught.value.key == "tracking.uri"
    assert caught.value.mend


@pytest.mark.parametrize("uri", ["https://host:5000", "postgresql+psycopg2://user:word@host/db"])
def test_servers_and_databases_keep_their_own_artefact_root(uri: str) -> None:
    assert artifact_root(check_uri(uri)) is None


def test_no_error_repeats_a_password() -> None:
    with pytest.raises(ConfigError) as caught:
        check_uri("oracle://user:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


def test_what_is_shown_has_no_password() -> None:
    command = "fedprofile train tracking.uri=postgresql+psycopg2://user:hunter2@host/db seed=1"
    assert without_password(command) == "fedprofile train tracking.uri=postgresql+psycopg2://***@host/db seed=1"
    for plain in ("sqlite:////home/a@b/mlflow.db", "http://host:5000", "data.root=/x@y"):
        assert without_password(plain) == plain


def test_a_missing_driver_is_named_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is Python's own way to say that an import must fail
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(ConfigError, match=r"driver of this database.*pip install psycopg2"):
        open_client("postgresql+psycopg2://user:hunter2@host/db")


def test_experiment_is_found_again_and_its_artefacts_are_absolute(uri: str, tmp_path: Path) -> None:
    client = open_client(uri)
    first = experiment_id(client, uri, "a/../study 分层")
    assert experiment_id(client, uri, "a/../study 分层") == first
    location = Path(client.get_experiment(first).artifact_location)
    assert location.parent == tmp_path.resolve() / "mlartifacts"


def test_deleted_experiment_is_named(uri: str) -> None:
    client = open_client(uri)
    client.delete_experiment(experiment_id(client, uri, "study"))
    with pytest.raises(ConfigError, match="'study' is deleted"):
        experiment_id(client, uri, "study")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, only words " * 40)
    uri = default_uri(tmp_path)
    with pytest.raises(ConfigError, match="cannot use this store"):
        experiment_id(open_client(uri), uri, "study")
