"""The coordinator's folder and what runs on it; also the contract with Flower's Control API."""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from fedprofile.errors import DeploymentError, UsageError
from fedprofile.flower.node_key import make_node_key
from fedprofile.flower.serve import environment, serve
from fedprofile.flower.superlink import CHILDREN, SuperLink


def test_a_folder_is_made_once_and_private(tmp_path):
    link = SuperLink.create(tmp_path / "state", "Banks", ["coordinator.example"], "0.0.0.0", 8443)
    assert stat.S_IMODE(link.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((link.folder / "superexec.secret").stat().st_mode) == 0o600
    assert len((link.folder / "superexec.secret").read_text()) == 64
    assert "coordinator.example" in link.authority.names()
    assert SuperLink(link.folder).settings == link.settings
    with pytest.raises(UsageError, match="already"):
        SuperLink.create(link.folder, "Banks")
    with pytest.raises(UsageError, match="no coordinator's folder"):
        SuperLink(tmp_path)


def test_what_does_not_run_says_so(tmp_path):
    link = SuperLink.create(tmp_path / "state", "Banks")
    assert not link.running
    assert not link.stop()
    for call in (
        link.nodes,
        link.runs,
        lambda: link.address,
        lambda: link.register("bank", make_node_key(tmp_path / "k")),
    ):
        with pytest.raises(DeploymentError, match="not running"):
            call()


def test_flower_is_told_to_tell_nobody(tmp_path):
    env = environment(tmp_path, {"PATH": "/bin", "NO_PROXY": "example.org", "HTTPS_PROXY": "http://proxy:3128"})
    assert Path(env["FLWR_HOME"]).is_relative_to(tmp_path)
    assert env["FLWR_TELEMETRY_ENABLED"] == "0"
    assert env["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert env["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert env["NO_PROXY"].split(",") == ["example.org", "127.0.0.1", "localhost"]
    assert env["PATH"].endswith(":/bin")


def test_a_folder_is_served_once(deployment):
    with pytest.raises(UsageError, match="serve runs already"):
        serve(deployment.link.folder)


def test_nothing_secret_is_readable_or_visible(deployment):
    folder = deployment.link.folder
    secret = (folder / "superexec.secret").read_text()
    for name in CHILDREN:
        command = Path(f"/proc/{deployment.link.processes.pid(name)}/cmdline").read_bytes()
        assert secret.encode() not in command
    for file in (folder / "flower").glob("state.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["gate", "superexec"])
def test_what_dies_is_started_again_where_it_was(deployment, name):
    link = deployment.link
    pid, address = link.processes.pid(name), link.gate_address
    os.kill(pid, signal.SIGKILL)
    give_up = time.monotonic() + 30
    while link.processes.pid(name) in (None, pid):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    link.wait_ready()
    assert link.gate_address == address


def test_nodes_are_listed_by_their_registered_names(deployment, tmp_path):
    link = deployment.link
    line = make_node_key(tmp_path / "listed")
    node = link.register("listed", line)
    (found,) = [n for n in link.nodes() if n.name == "listed"]
    assert (found.node_id, found.status, found.last_seen) == (node, "registered", None)
    assert link.registered()["listed"].public_key.encode() == line
    link.unregister("listed")
    assert line.decode() in link.retired()
    with pytest.raises(UsageError, match="no node of 'listed'"):
        link.unregister("listed")
    with pytest.raises(DeploymentError, match="refused"):
        link.register("listed", line)


def test_a_job_needs_a_folder_and_registered_nodes(deployment, small, tmp_path):
    with pytest.raises(UsageError, match="no job folder"):
        deployment.link.submit(tmp_path)
    federated = small(tmp_path / "f", "align=simulated", shops=1, singles=("insurer",))
    with pytest.raises(UsageError, match=r"no node is registered for .*insurer"):
        deployment.link.submit(federated.folder)
    with pytest.raises(UsageError, match="knows no run 1"):
        deployment.link.run(1)
