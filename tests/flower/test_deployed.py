"""The same job in process and deployed: not one bit of the shared model differs, whatever dies meanwhile.

Deployed means SuperLink, executor, gate, ServerApp and each node in a process of its own, TLS and authentication on,
every node through the gate.
"""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from safetensors.numpy import load_file

from fedprofile.flower import client_app, server_app
from fedprofile.flower.inprocess import run_in_process

STAGES = ("approve", "keys", "align", "release", "stats", "rounds", "weights", "scores")


def result(federated) -> dict[str, bytes]:
    """Everything that the coordinator and the bank are left with, bit for bit."""
    arrays = load_file(federated.folder / "checkpoint.safetensors")
    found = {name: value.tobytes() for name, value in arrays.items()}
    for name in ("score_sum", "shared"):
        kept = load_file(federated.homes["bank"] / "run" / f"{name}.safetensors")
        found |= {f"bank/{n}": v.tobytes() for n, v in kept.items()}
    return found


def own_secrets(federated):
    """Homes whose session keys are drawn from the system and lie in no file; labels and rounding stay as they were."""
    for home in federated.homes.values():
        node = home / "node.json"
        node.write_text(node.read_text().replace('"secrets": "simulated"', '"secrets": "own"'))
    return federated


def in_process(federated) -> dict[str, bytes]:
    run_in_process(server_app.app, client_app.app, federated.homes, federated.folder)
    client_app.forget(list(federated.homes.values()))
    return result(federated)


def outcome(federated) -> dict:
    return json.loads((federated.folder / "outcome.json").read_text())


@pytest.mark.parametrize("align", ["simulated", pytest.param("psi", marks=pytest.mark.nightly)])
def test_six_deployed_nodes_train_the_simulated_model_bit_for_bit(small, deployment, tmp_path, align):
    """Bank, tax, hospital and three shops, so that a role's sum is deployed too."""
    here, there = (small(tmp_path / place, f"align={align}", singles=("tax", "medical")) for place in ("here", "there"))
    assert len(there.homes) == 6
    assert here.job == own_secrets(there).job
    simulated = in_process(here)
    with deployment.of(there):
        run = deployment.link.submit(there.folder)
        ended = deployment.link.wait(run, 300)
        assert ended.outcome == "completed", "".join(deployment.link.logs(run))
    assert result(there) == simulated
    assert {name.split("/")[0] for name in simulated} == {"shared", "encoder", "count", "bank"}
    ours, theirs = outcome(there), outcome(here)
    for wire in (ours["wire"], theirs["wire"]):  # nobody is asked who it is where keys are registered
        wire["down"].pop("identify", None), wire["up"].pop("identity", None)
    assert ours == theirs, "not a message, byte or round sum more"
    progress = json.loads((there.folder / "progress.json").read_text())
    assert progress["stage"] == "scores"


class Disturbed:
    """A deployed run of three nodes with real secrets in memory only, and the means to hurt it."""

    def __init__(self, deployment, federated) -> None:
        self.deployment, self.federated = deployment, federated
        self.run = deployment.link.submit(federated.folder)

    def until(self, stage: str, round: int = 0) -> None:
        """Wait for the coordinator to come to a stage, or past it."""
        give_up = time.monotonic() + 120
        file, wanted = self.federated.folder / "progress.json", (STAGES.index(stage), round)
        while True:
            seen = json.loads(file.read_text()) if file.exists() else {"stage": "approve", "round": 0}
            if (STAGES.index(seen["stage"]), seen["round"]) >= wanted:
                return
            assert time.monotonic() < give_up, f"still at {seen}"
            time.sleep(0.05)

    def finish(self) -> dict[str, bytes]:
        ended = self.deployment.link.wait(self.run, 300)
        failure = self.federated.folder / "failure.json"
        assert ended.outcome == "completed", failure.read_text() if failure.exists() else self.log()
        return result(self.federated)

    def log(self) -> str:
        return "".join(self.deployment.link.logs(self.run))

    def kill_server_app(self) -> None:
        os.kill(int((self.federated.folder / server_app.PID).read_text()), signal.SIGKILL)


FEW = ("align=simulated",)
"""Settings of runs that are disturbed: what an alignment does when it is cut is tests/flower/test_resume.py's."""


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> dict[str, bytes]:
    """What three nodes come to that nobody disturbs."""
    return in_process(small(tmp_path_factory.mktemp("whole"), *FEW, shops=1))


def test_what_dies_is_started_again_and_no_bit_changes(small, whole, deployment, tmp_path):
    """In one run: a node at training, SuperLink, and the ServerApp, each by kill -9.

    The keys of the killed node were in its memory: all agree new ones, and the same integers go under new masks.
    """
    federated = own_secrets(small(tmp_path, *FEW, shops=1))
    with deployment.of(federated, tax={"FEDPROFILE_CRASH_AT": "training"}):
        run = Disturbed(deployment, federated)
        deployment.died("tax")
        deployment.start("tax")
        run.until("rounds", 1)
        os.kill(deployment.link.processes.pid("superlink"), signal.SIGKILL)
        run.until("weights")
        run.kill_server_app()
        run.run = deployment.link.submit(federated.folder)
        assert run.finish() == whole
        assert "need_setup" in (federated.homes["tax"] / "journal.jsonl").read_text()
