"""A real deployment on loopback: a coordinator's processes and resident nodes, each a process of its own."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from fedprofile.flower import client_app, server_app
from fedprofile.flower.app_bundle import fab_hash
from fedprofile.flower.inprocess import run_in_process
from fedprofile.flower.node_key import make_node_key
from fedprofile.flower.resident import ResidentSettings, run_resident
from fedprofile.flower.superlink import SuperLink
from fedprofile.governance.audit import Refused
from fedprofile.node.audit import record
from fedprofile.node.home import NodeHome

SERVE = """\
import logging, sys
from pathlib import Path
from fedprofile.flower.serve import serve
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)
serve(Path(sys.argv[1]))
"""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["fedprofile.flower.resident", "fedprofile.flower.client_app", "fedprofile.models.learner"]
)


RELEASE = "FEDPROFILE_TEST_RELEASE"


def older_release(folder: Path, number: str) -> str:
    """The metadata of an installed package of another version, for a node's process to find before the real one."""
    info = folder / f"fedprofile-{number}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fedprofile\nVersion: {number}\n")
    return str(folder)


def _node(settings: str, env: dict[str, str], log: Path) -> None:
    """As ``fedprofile node start``: the node serves its own release's bundle, and its refusals are in its audit log."""
    os.environ.update(env)
    if RELEASE in env:
        sys.path.insert(0, env[RELEASE])
        settings = json.dumps(json.loads(settings) | {"allowed_fabs": [fab_hash()]})
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    logging.basicConfig(level=logging.INFO, force=True, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    held = ResidentSettings.from_json(settings)
    run_resident(held, lambda code: record(NodeHome(held.home), Refused(code, "flower")))


class Deployment:
    """``link`` is served in a process; ``node(party)`` starts that party's resident node."""

    def __init__(self, root: Path, stock: bool = False) -> None:
        self.root = root
        self.link = SuperLink.create(root / "coordinator", "A federation of tests", stock=stock)
        self.nodes: dict[str, multiprocessing.process.BaseProcess] = {}
        self.settings: dict[str, ResidentSettings] = {}
        self._serving: subprocess.Popen[bytes] | None = None

    def serve(self, env: Mapping[str, str] | None = None) -> None:
        with open(self.root / "serve.log", "ab") as out:
            command = [sys.executable, "-c", SERVE, str(self.link.folder)]
            self._serving = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **(env or {})})
        self.link.wait_ready(90)

    def enrol(self, party: str, home: Path) -> ResidentSettings:
        """Make and register the party's key, once; write its settings."""
        key = self.root / "keys" / party
        if not key.exists():
            key.parent.mkdir(exist_ok=True)
            self.link.register(party, make_node_key(key))
        self.settings[party] = ResidentSettings(
            home=home,
            coordinator=self.link.gate_address,
            root_certificates=self.link.authority.certificate,
            key=key,
            state=self.root / "state" / party,
            allowed_fabs=(fab_hash(),),
            poll_s=0.5,
        )
        return self.settings[party]

    @contextmanager
    def of(self, federated: Any, **env: dict[str, str]) -> Iterator[None]:
        """A federation's nodes, each a process; ``env`` by party."""
        for party, home in federated.homes.items():
            self.enrol(party, home)
            self.start(party, env.get(party))
        try:
            self.online(*federated.homes)
            yield
        finally:
            self.stop_nodes()

    def died(self, party: str, seconds: float = 120) -> None:
        """Wait for a node that kills itself."""
        self.nodes[party].join(seconds)
        assert self.nodes[party].exitcode == -signal.SIGKILL, self.log(party)

    def stop_nodes(self) -> None:
        for node in self.nodes.values():
            if node.is_alive():
                os.kill(node.pid or 0, signal.SIGCONT)
                node.terminate()
        for node in self.nodes.values():
            node.join(15)
            node.kill()
        self.nodes.clear()

    def start(self, party: str, env: Mapping[str, str] | None = None) -> multiprocessing.process.BaseProcess:
        """A process forked from one that has torch loaded: starting six Pythons costs half a minute of CPU."""
        words = self.settings[party].to_json(), dict(env or {}), self.root / f"{party}.log"
        self.nodes[party] = FORKS.Process(target=_node, args=words)
        self.nodes[party].start()
        return self.nodes[party]

    def kill(self, party: str, number: int = signal.SIGKILL) -> None:
        os.kill(self.nodes[party].pid or 0, number)

    def online(self, *parties: str, seconds: float = 60) -> None:
        """Wait until SuperLink lists them as online."""
        give_up = time.monotonic() + seconds
        while not set(parties) <= {n.name for n in self.link.nodes() if n.status == "online"}:
            assert time.monotonic() < give_up, f"not online: {self.log(*parties)}"
            time.sleep(0.2)

    def log(self, *names: str) -> str:
        return "\n".join(
            (self.root / f"{n}.log").read_text()[-2000:] for n in names if (self.root / f"{n}.log").exists()
        )

    def close(self) -> None:
        self.stop_nodes()
        self.link.stop()
        if self._serving is not None:
            self._serving.wait(30)


@contextmanager
def deployed(root: Path, stock: bool = False, env: Mapping[str, str] | None = None) -> Iterator[Deployment]:
    """``env`` is what SuperLink, executor and ServerApps see besides the environment of this process."""
    root.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(root, stock)
    try:
        deployment.serve(env)
        yield deployment
    finally:
        deployment.close()


# -- runs ------------------------------------------------------------------------------------------
FEW = ("align=simulated",)
"""Settings of runs that are disturbed: what an alignment does when it is cut is tests/flower/test_resume.py's."""


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

    def finish(self, seconds: float = 300) -> dict[str, bytes]:
        ended = self.deployment.link.wait(self.run, seconds)
        failure = self.federated.folder / "failure.json"
        assert ended.outcome == "completed", failure.read_text() if failure.exists() else self.log()
        return result(self.federated)

    def log(self) -> str:
        return "".join(self.deployment.link.logs(self.run))

    def kill_server_app(self) -> None:
        os.kill(int((self.federated.folder / server_app.PID).read_text()), signal.SIGKILL)
