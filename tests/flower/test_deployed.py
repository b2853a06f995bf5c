"""The same job in process and deployed: not one bit of the shared model differs, whatever dies meanwhile.

Deployed means SuperLink, executor, gate, ServerApp and each node in a process of its own, TLS and authentication on,
every node through the gate. Minutes: make nightly. tests/deployment/test_commands.py trains on six nodes each time.
"""

from __future__ import annotations

import json
import os
import signal

import pytest
from deployment import FEW, Disturbed, in_process, own_secrets, result

pytestmark = pytest.mark.nightly


def outcome(federated) -> dict:
    return json.loads((federated.folder / "outcome.json").read_text())


@pytest.mark.parametrize("align", ["simulated", "psi"])
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
