"""Every fault of nodes and coordinator by real means, one a run: the same model bit for bit, or a clean end.

Each takes half a minute and more: make nightly. One run with several of them is in test_deployed.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deployment import FEW, RELEASE, Disturbed, deployed, in_process, older_release, own_secrets

from fedprofile.flower.serve import environment
from fedprofile.flower.superlink import free_port
from fedprofile.node.audit import log_of
from fedprofile.node.home import NodeHome

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> dict[str, bytes]:
    return in_process(small(tmp_path_factory.mktemp("whole"), *FEW, shops=1))


@pytest.fixture
def federated(small, tmp_path):
    return own_secrets(small(tmp_path / "federated", *FEW, shops=1))


@pytest.mark.parametrize("party", ["tax", "bank"])
@pytest.mark.parametrize(
    "stage", ["invited", "invited:6", "keys", "training", "training:2", "uploading:8", "uploaded:9"]
)
def test_a_node_killed_at_any_stage_changes_no_bit(federated, whole, deployment, stage, party):
    with deployment.of(federated, **{party: {"FEDPROFILE_CRASH_AT": stage}}):
        run = Disturbed(deployment, federated)
        deployment.died(party)
        deployment.start(party)
        assert run.finish() == whole


@pytest.mark.parametrize("stage", ["asked", "asked:4", "asked:9", "asked:11", "summed", "summed:2"])
def test_a_coordinator_killed_at_any_stage_is_resumed_to_the_same_model(federated, whole, tmp_path, stage):
    mark = tmp_path / "mark"
    env = {"FEDPROFILE_CRASH_AT": stage, "FEDPROFILE_CRASH_MARK": str(mark)}
    with deployed(tmp_path / "deployment", env=env) as deployment, deployment.of(federated):
        run = Disturbed(deployment, federated)
        give_up = time.monotonic() + 120
        while not mark.exists():
            assert time.monotonic() < give_up
            time.sleep(0.1)
        run.run = deployment.link.submit(federated.folder)
        assert run.finish() == whole


@pytest.mark.parametrize("stage", ["keys", "stats", "rounds", "scores"])
def test_superlink_killed_at_any_stage_loses_nothing(federated, whole, deployment, stage):
    with deployment.of(federated):
        run = Disturbed(deployment, federated)
        run.until(stage)
        os.kill(deployment.link.processes.pid("superlink"), signal.SIGKILL)
        assert run.finish() == whole


def test_all_of_the_coordinators_processes_killed_at_once(federated, whole, tmp_path):
    """A power cut: the folder is served again and the run submitted again."""
    with deployed(tmp_path / "deployment") as deployment, deployment.of(federated):
        run = Disturbed(deployment, federated)
        run.until("rounds", 1)
        processes = deployment.link.processes
        for name in ("serve", "gate", "superexec", "superlink"):
            os.kill(processes.pid(name), signal.SIGKILL)
        run.kill_server_app()
        time.sleep(1)
        deployment.stop_nodes()
        deployment.serve()
        with deployment.of(federated):
            run.run = deployment.link.submit(federated.folder)
            assert run.finish() == whole


def test_a_node_that_sleeps_longer_than_its_heartbeats_is_waited_for(federated, whole, deployment):
    with deployment.of(federated):
        run = Disturbed(deployment, federated)
        run.until("stats")
        deployment.kill("tax", signal.SIGSTOP)
        time.sleep(30)
        assert not (federated.folder / "outcome.json").exists()
        deployment.kill("tax", signal.SIGCONT)
        assert run.finish() == whole


def test_a_node_that_stops_and_comes_again_is_waited_for(federated, whole, deployment):
    with deployment.of(federated):
        run = Disturbed(deployment, federated)
        run.until("stats")
        deployment.kill("tax", signal.SIGTERM)
        deployment.nodes["tax"].join(30)
        time.sleep(5)
        deployment.start("tax")
        assert run.finish() == whole


def test_a_run_that_is_stopped_ends_at_once_and_can_be_resumed(federated, whole, deployment):
    with deployment.of(federated):
        run = Disturbed(deployment, federated)
        run.until("rounds")
        deployment.link.stop_run(run.run)
        assert deployment.link.wait(run.run, 60).outcome == "stopped"
        assert not (federated.folder / "outcome.json").exists()
        run.run = deployment.link.submit(federated.folder)
        assert run.finish() == whole


def test_a_node_that_refuses_ends_the_run_by_name(federated, deployment):
    """A foreign bundle hash on one node's list: nothing is trained, and the failure says who refused what."""
    with deployment.of(federated):
        deployment.kill("tax", signal.SIGTERM)
        deployment.nodes["tax"].join(30)
        settings = deployment.settings["tax"]
        plain = json.loads(settings.to_json()) | {"allowed_fabs": ["0" * 64]}
        deployment.settings["tax"] = type(settings).from_json(json.dumps(plain))
        deployment.start("tax")
        deployment.online("tax")
        run = deployment.link.submit(federated.folder)
        assert deployment.link.wait(run, 120).outcome == "failed"
    failure = json.loads((federated.folder / "failure.json").read_text())
    assert failure["error"] == "NodeFailed"
    assert "tax" in failure["what"]
    assert "bundle_not_allowed" in failure["what"]


def test_a_node_of_an_earlier_release_ends_a_running_training_which_goes_on_with_the_right_one(
    federated, whole, deployment, tmp_path
):
    """Its machine dies in the middle of round 1 and comes back with the release of before: nothing is mixed."""
    with deployment.of(federated, tax={"FEDPROFILE_CRASH_AT": "training"}):
        run = Disturbed(deployment, federated)
        deployment.died("tax")
        told = list(log_of(NodeHome(federated.homes["tax"])).chain)
        deployment.start("tax", {RELEASE: older_release(tmp_path / "older", "0.0.9")})
        assert deployment.link.wait(run.run, 120).outcome == "failed"
        failure = json.loads((federated.folder / "failure.json").read_text())
        assert "'tax'" in failure["what"]
        assert "bundle_not_allowed" in failure["what"]
        assert "another release" in failure["mend"]
        assert not (federated.folder / "outcome.json").exists()
        for name in ("score_sum", "shared"):
            assert not (federated.homes["bank"] / "run" / f"{name}.safetensors").exists(), "nothing is released"
        refused = list(log_of(NodeHome(federated.homes["tax"])).chain)[len(told) :]
        assert {(line["event"], line["code"], line["asked"]) for line in refused} == {
            ("refused", "bundle_not_allowed", "flower")
        }, "nothing left it, and its log says what it refused"

        deployment.kill("tax", signal.SIGTERM)
        deployment.nodes["tax"].join(30)
        deployment.start("tax")
        deployment.online("tax")
        run.run = deployment.link.submit(federated.folder)
        assert run.finish() == whole


def test_a_stock_supernode_can_take_a_residents_place(small, whole, tmp_path):
    """The documented fall-back for research machines: secrets must be simulated, as each message is a new process.

    One of another release says so and takes no part.
    """
    federated = small(tmp_path / "federated", *FEW, shops=1)
    with deployed(tmp_path / "deployment", stock=True) as deployment, deployment.of(federated):
        deployment.kill("tax", signal.SIGTERM)
        deployment.nodes["tax"].join(30)
        settings = deployment.settings["tax"]
        command = [
            str(Path(sys.executable).parent / "flower-supernode"), "--superlink", settings.coordinator,
            "--root-certificates", str(settings.root_certificates),
            "--auth-supernode-private-key", str(settings.key),
            "--node-config", f'home="{settings.home}"', "--host", "127.0.0.1", "--port", str(free_port()),
        ]  # fmt: skip
        home = tmp_path / "stock"
        (home / "flower" / "home").mkdir(parents=True)

        @contextmanager
        def stock(**env: str) -> Iterator[None]:
            with open(deployment.root / "tax.log", "ab") as out:
                words = {**environment(home), **env}
                node = subprocess.Popen(command, env=words, stdout=out, stderr=out, start_new_session=True)
            try:
                deployment.online("tax")
                yield
            finally:
                os.killpg(node.pid, signal.SIGTERM)
                node.wait(60)

        with stock(PYTHONPATH=older_release(tmp_path / "older", "0.0.9")):
            run = Disturbed(deployment, federated)
            assert deployment.link.wait(run.run, 300).outcome == "failed"
            failure = json.loads((federated.folder / "failure.json").read_text())
            assert ("bundle_not_allowed" in failure["what"], "another release" in failure["mend"]) == (True, True)
        with stock():
            assert Disturbed(deployment, federated).finish(900) == whole
