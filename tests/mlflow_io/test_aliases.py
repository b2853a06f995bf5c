"""MLflow follows the head: what it shows, what happens while it is away, and what is believed of it (nothing)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "governance"))

from desk import Desk, actor, small_model
from office import NOW

from fedprofile.cli.main import main
from fedprofile.errors import DataError, DeploymentError, UsageError
from fedprofile.mlflow_io.aliases import HEAD, behind, fetch, sync
from fedprofile.mlflow_io.standing import Standing
from fedprofile.mlflow_io.store import open_client
from fedprofile.mlflow_io.tracking import TrackingRun, default_uri
from fedprofile.mlflow_io.ui import command
from fedprofile.registry.files import read_sealed
from fedprofile.registry.promote import approve, promote, roll_back, shadow

MODEL = "fedprofile"


@pytest.fixture(scope="module")
def stocked(empty_store, tmp_path_factory):
    """A store with three registered versions, and their bundles."""
    home = tmp_path_factory.mktemp("stocked")
    shutil.copy(empty_store, home / "mlflow.db")
    desk = Desk(home, small_model())
    with TrackingRun.open(default_uri(home), "promotion", "run", {}) as run:
        run.log_model(desk.bundle("a"), True)
    client = open_client(default_uri(home))
    first = Path(client.get_model_version_download_uri(MODEL, "1").removeprefix("file://"))
    for name in "bc":  # as logging them would, without its seconds
        shutil.copytree(
            first, home / "more" / name, ignore=lambda folder, _: ["a"] if folder.endswith("artifacts") else []
        )
        shutil.copytree(desk.bundle(name), home / "more" / name / "artifacts" / name)
        client.create_model_version(MODEL, str(home / "more" / name), run.run_id)
    client.set_registered_model_alias(MODEL, "challenger", "3")
    return home, {str(n): home / name for n, name in enumerate("abc", 1)}, desk.model


@pytest.fixture
def office(stocked, tmp_path):
    """A registry of its own beside a copy of that store's database; versions 1 and 2 were champions."""
    home, versions, model = stocked
    shutil.copy(home / "mlflow.db", tmp_path / "mlflow.db")
    desk = Desk(tmp_path, model, tracking=default_uri(tmp_path))
    for number in ("1", "2"):
        manifest = desk.gate(versions[number], version=number)
        for who in ("wang", "zhao"):
            approve(desk.registry, actor(who), manifest, None, "approve", 14)
        promote(desk.registry, actor("chen"), manifest)
    desk.uri = desk.registry.tracking
    return desk


def standing(desk: Desk) -> Standing:
    return Standing.of(desk.state, desk.registry.shelf.report)


def follow(desk: Desk) -> list[str]:
    return sync(desk.uri, MODEL, standing(desk))


def aliases(desk: Desk) -> dict[str, str]:
    held = open_client(desk.uri).get_registered_model(MODEL).aliases
    return {alias: str(version) for alias, version in held.items()}


def test_aliases_tags_and_reports_follow_every_move(office, stocked):
    assert follow(office)
    # version 3 is what `train` has just registered: challenger before any gate has seen it
    assert aliases(office) == {"champion": "2", "challenger": "3"}
    assert behind(office.uri, MODEL, standing(office)) == follow(office) == []
    new = office.gate(stocked[1]["3"], version="3")
    shadow(office.registry, actor("chen"), new)
    roll_back(office.registry, actor("chen"), None, "drift")
    follow(office)
    assert aliases(office) == {"champion": "1", "challenger": "3", "shadow": "3"}
    shadow(office.registry, actor("chen"), None)
    follow(office)
    assert "shadow" not in aliases(office)

    client = open_client(office.uri)
    shown = client.get_model_version(MODEL, "1")
    assert shown.tags["fedprofile.stage"] == "champion"
    assert shown.tags["fedprofile.gates"] == "passed"
    people = json.loads(shown.tags["fedprofile.approvals"])
    assert [(p["person"], p["role"], p["decision"]) for p in people] == [
        ("wang", "validator", "approve"), ("zhao", "approver", "approve"),
    ]  # fmt: skip
    assert client.get_model_version(MODEL, "2").tags["fedprofile.stage"] == "former champion"
    paths = [
        a.path
        for f in client.list_artifacts(shown.run_id, "registry")
        for a in client.list_artifacts(shown.run_id, f.path)
    ]
    assert {Path(path).name for path in paths} == {"gate.json"}


def test_somebody_moves_the_alias_and_sync_moves_it_back(office):
    follow(office)
    client = open_client(office.uri)
    client.set_registered_model_alias(MODEL, "champion", "3")
    client.set_model_version_tag(MODEL, "2", "fedprofile.gates", "failed")
    late = behind(office.uri, MODEL, standing(office))
    assert late == ["@champion is version 3, the head says version 2", "the tags of version 2 are behind"]
    assert follow(office) == late
    assert aliases(office)["champion"] == "2"


def test_a_log_that_was_put_back_is_found(office):
    old = standing(office)
    roll_back(office.registry, actor("chen"), None, "drift")
    follow(office)
    before = aliases(office)
    for call in (behind, sync):
        with pytest.raises(DataError, match="put back"):
            call(office.uri, MODEL, old)
    assert aliases(office) == before


def test_no_alias_goes_to_a_bundle_that_was_changed_in_mlflow(office, stocked, tmp_path):
    follow(office)
    client = open_client(office.uri)
    held = Path(client.get_model_version_download_uri(MODEL, "1").removeprefix("file://")) / "artifacts" / "a"
    shutil.move(held, tmp_path / "kept")
    shutil.copytree(stocked[1]["3"], held)
    try:
        roll_back(office.registry, actor("chen"), None, "drift")
        with pytest.raises(DataError, match="another bundle"):
            follow(office)
        assert aliases(office)["champion"] == "2"
    finally:
        shutil.rmtree(held)
        shutil.move(tmp_path / "kept", held)
    follow(office)
    assert aliases(office)["champion"] == "1"


@contextmanager
def locked(desk: Desk):
    with sqlite3.connect(desk.folder / "mlflow.db", isolation_level=None) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")
    db.close()


@contextmanager
def gone(desk: Desk):
    (desk.folder / "mlflow.db").rename(desk.folder / "away.db")
    yield
    (desk.folder / "away.db").rename(desk.folder / "mlflow.db")


@pytest.mark.parametrize("trouble", [locked, gone])
def test_without_mlflow_a_rollback_is_done_and_said_to_be_behind_until_sync(office, trouble, monkeypatch, capsys):
    follow(office)
    key = office.folder / "chen.key"
    key.write_bytes(b"chen".ljust(32, b"."))
    key.chmod(0o600)
    monkeypatch.setattr("fedprofile.registry.home.seconds", lambda: NOW)
    where = ["--registry", str(office.registry.path), "--json"]
    me = ["--as", "chen", "--key", str(key), *where]
    with trouble(office):
        assert main(["registry", "rollback", "--reason", "drift", *me]) == 0
        assert json.loads(capsys.readouterr().out)["mlflow"] == "behind"
        assert main(["registry", "status", *where]) == 0
        assert "MLflow" in json.loads(capsys.readouterr().out)["mlflow"][0]
        assert main(["registry", "sync", *me]) == 1
        assert "MLflow" in capsys.readouterr().err
    # the head moved, MLflow did not: nothing is half there
    assert office.state.release(office.state.champion).version == "1"
    assert aliases(office)["champion"] == "2"
    assert main(["registry", "status", *where]) == 0
    assert "@champion is version 2, the head says version 1" in json.loads(capsys.readouterr().out)["mlflow"]
    assert main(["registry", "sync", *me]) == 0
    assert aliases(office)["champion"] == "1"


def test_a_version_that_is_not_there_and_a_server_that_is_not_there(office, tmp_path):
    with pytest.raises(UsageError, match="no version 9"):
        fetch(office.uri, MODEL, "9", tmp_path / "in")
    for uri in ("http://127.0.0.1:9", "sqlite:////nowhere/SECRET.db"):
        with pytest.raises(DeploymentError) as caught:
            behind(uri, MODEL, standing(office))
        assert "SECRET" not in str(caught.value)


def test_what_is_fetched_is_the_bundle(office, stocked, tmp_path):
    found = fetch(office.uri, MODEL, "2", tmp_path)
    assert read_sealed(found).seal == read_sealed(stocked[1]["2"]).seal
    assert HEAD in open_client(office.uri).get_registered_model(MODEL).tags or follow(office)


@contextmanager
def serving(uri: str):
    """A real MLflow server on a free port; it is ended as a whole."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv, env = command(uri, port)
    child = subprocess.Popen(
        argv, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while child.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@pytest.mark.nightly
def test_a_real_server_is_followed_and_its_death_moves_nothing(office, stocked, tmp_path):
    with serving(office.uri) as url:
        assert sync(url, MODEL, standing(office))
        assert aliases(office)["champion"] == "2"
        assert behind(url, MODEL, standing(office)) == []
        assert read_sealed(fetch(url, MODEL, "2", tmp_path / "in")).seal == read_sealed(stocked[1]["2"]).seal
        roll_back(office.registry, actor("chen"), None, "drift")
        assert behind(url, MODEL, standing(office))[0] == "@champion is version 2, the head says version 1"
    with pytest.raises(DeploymentError):
        sync(url, MODEL, standing(office))
    assert aliases(office)["champion"] == "2"
    assert office.state.release(office.state.champion).version == "1"
    with serving(office.uri) as url:
        sync(url, MODEL, standing(office))
        assert aliases(office)["champion"] == "1"


@pytest.mark.nightly
def test_a_database_server_is_followed_and_its_death_moves_nothing(postgres_server, stocked, tmp_path):
    url, control = postgres_server
    uri = url.replace("postgresql://", "postgresql+psycopg://")
    desk = Desk(tmp_path, stocked[2], tracking=uri)
    client = open_client(uri)
    client.create_registered_model(MODEL)
    for folder in stocked[1].values():
        kept = shutil.copytree(folder, tmp_path / "models" / folder.name / "artifacts" / "bundle")
        client.create_model_version(MODEL, str(kept.parents[1]))
    for number in ("1", "2"):
        manifest = desk.gate(stocked[1][number], version=number)
        for who in ("wang", "zhao"):
            approve(desk.registry, actor(who), manifest, None, "approve", 14)
        promote(desk.registry, actor("chen"), manifest)
    desk.uri = uri
    assert follow(desk)
    assert aliases(desk)["champion"] == "2"
    assert client.get_model_version(MODEL, "1").tags["fedprofile.stage"] == "former champion"
    roll_back(desk.registry, actor("chen"), None, "drift")
    control("stop")
    try:
        for call in (behind, sync):
            with pytest.raises(DeploymentError) as caught:
                call(uri, MODEL, standing(desk))
            assert "host=" not in str(caught.value)
    finally:
        control("start")
    assert aliases(desk)["champion"] == "2"
    assert follow(desk)
    assert aliases(desk)["champion"] == "1"
