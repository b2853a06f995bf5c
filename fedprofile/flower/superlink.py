"""The coordinator's side of Flower's deployment: SuperLink, the executor of ServerApps, and the gate to partners.

Everything lies in one state folder::

    coordinator.json   federation, public host and port, names on the certificate
    tls/               the federation's CA and the server certificate (``fedprofile.coordinator.ca``)
    superexec.secret   without it nobody takes a ServerApp's task from SuperLink, not even on loopback
    nodes.json         party -> Flower node id and public key: who is who in a run, never what a node says of itself
    retired.json       public keys that were unregistered, which SuperLink never takes again
    flower/            SuperLink's SQLite database and FLWR_HOME; treat both as holding masked vectors
    processes/         pid, lock and log of each child; addresses.json while they run

``serve`` runs in the foreground and starts again what dies; ``SuperLink`` talks to what ``serve`` keeps running.
Use: ``SuperLink.create(folder, "My federation", names, host, port)``, ``serve(folder)`` in one process, and in others
``register``, ``nodes``, ``submit``, ``runs``, ``logs``, ``stop_run``, ``stop``.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from fedprofile.coordinator.ca import Authority
from fedprofile.coordinator.job import Job
from fedprofile.errors import DeploymentError, UsageError
from fedprofile.files import replace_private
from fedprofile.flower.app_bundle import build_fab, write_app
from fedprofile.flower.node_key import load_public, public_line, public_pem
from fedprofile.flower.processes import SUPERVISOR, Processes

if TYPE_CHECKING:
    from fedprofile.flower.control import Control, NodeStatus, RunInfo

CHILDREN = ("superlink", "superexec", "gate")
NODES = "nodes.json"
"""In a state folder: party -> {"node_id", "public_key"}; in a job folder: party -> PEM of its public key."""
RETIRED = "retired.json"
READY_WITHIN = 60.0
_LOOK_S = 1.0


@dataclass(frozen=True)
class Settings:
    """``host`` and ``port`` are the gate's: what partners dial (port 0: one that is free, see ``address``)."""

    federation: str
    host: str
    port: int
    stock: bool = False


@dataclass(frozen=True)
class Registered:
    """A party's Flower node; ``public_key`` is its OpenSSH line."""

    party: str
    node_id: int
    public_key: str


class SuperLink:
    """A state folder, and what runs on it."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for a folder that ``create`` did not make."""
        self.folder = Path(folder).absolute()
        try:
            self.settings = Settings(**json.loads((self.folder / "coordinator.json").read_text()))
        except FileNotFoundError:
            raise UsageError(f"{self.folder} is no coordinator's folder", "Create one, or check the path.") from None
        self.authority = Authority(self.folder / "tls")
        self.processes = Processes(self.folder / "processes")

    @staticmethod
    def create(
        folder: Path,
        federation: str,
        names: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        stock: bool = False,
    ) -> SuperLink:
        """Make CA, certificate and executor's secret; ``names`` are the host names and addresses that nodes dial.

        ``stock`` lets stock SuperNodes in, which run whatever bundle the coordinator sends: research machines only.
        """
        folder = Path(folder).absolute()
        if (folder / "coordinator.json").exists():
            raise UsageError(f"{folder} is a coordinator's folder already", "Start it, or name another.")
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        Authority.create(folder / "tls", federation, names)
        secret = os.open(folder / "superexec.secret", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(secret, "w") as handle:
            handle.write(secrets.token_hex(32))
        for sub in ("flower/home", "processes"):
            (folder / sub).mkdir(parents=True, exist_ok=True, mode=0o700)
        write_app(folder / "flower" / "app")
        (folder / "coordinator.json").write_text(json.dumps(asdict(Settings(federation, host, port, stock)), indent=1))
        return SuperLink(folder)

    # -- where it is -----------------------------------------------------------------------------
    @property
    def running(self) -> bool:
        return self.processes.held(SUPERVISOR)

    @property
    def address(self) -> str:
        """host:port of SuperLink on loopback. Raises DeploymentError while nothing runs."""
        return self._address("superlink")

    @property
    def gate_address(self) -> str:
        """host:port of the gate on this machine."""
        return self._address("gate")

    def _address(self, name: str) -> str:
        if not self.running or not self._addresses.exists():
            raise DeploymentError("the coordinator is not running", "Start it first.")
        return str(json.loads(self._addresses.read_text())[name])

    @property
    def _addresses(self) -> Path:
        return self.processes.folder / "addresses.json"

    def publish(self, addresses: dict[str, str]) -> None:
        """Said by ``serve``: where "superlink" and "gate" are."""
        _replace(self._addresses, addresses)

    def ready(self) -> bool:
        """Whether SuperLink and gate answer."""
        if not self.running:
            return False
        trust = ssl.create_default_context(cafile=str(self.authority.certificate))
        try:
            with httpx.Client(verify=trust, trust_env=False, timeout=5.0) as client:
                health = client.get(f"https://{self.address}/health").status_code
                gate = client.get(f"https://{self.gate_address}/health").status_code
        except (httpx.TransportError, DeploymentError):
            return False
        return (health, gate) == (200, 404)

    def wait_ready(self, seconds: float = READY_WITHIN) -> None:
        """Raises DeploymentError when SuperLink and gate do not answer in time."""
        give_up = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() > give_up:
                logs = f"See the logs in {self.processes.folder}."
                raise DeploymentError(f"SuperLink and gate do not answer after {seconds:.0f} s", logs)
            time.sleep(0.1)

    def stop(self, seconds: float = 40.0) -> bool:
        """End ``serve`` and its children, also those that a killed ``serve`` left; whether anything ran."""
        ended = [name for name in (SUPERVISOR, *CHILDREN) if self.processes.end(name, seconds)]
        return bool(ended)

    # -- nodes -----------------------------------------------------------------------------------
    def register(self, party: str, public_key: bytes) -> int:
        """Let the holder of this key (OpenSSH line or PEM) be the party's node; returns Flower's node id.

        The same key again changes nothing. Raises UsageError for a party that has another key: unregister that first.
        """
        key = load_public(public_key)
        line = public_line(key).decode()
        known = self.registered()
        if party in known:
            if known[party].public_key == line:
                return known[party].node_id
            raise UsageError(f"party {party!r} has another key already", "Unregister that key first.")
        if any(r.public_key == line for r in known.values()):
            raise UsageError("this key belongs to another party already", "Every node makes its own key.")
        node_id = self._node_of(key) or self._register(party, key)
        self._keep({**known, party: Registered(party, node_id, line)})
        return node_id

    def _register(self, party: str, key: ec.EllipticCurvePublicKey) -> int:
        with self._control() as control:
            return control.register(party, public_pem(key))

    def _node_of(self, key: ec.EllipticCurvePublicKey) -> int | None:
        """A node that SuperLink knows although ``nodes.json`` does not: it was registered right before a crash."""
        with self._control() as control:
            found = [n for n in control.nodes() if n.public_key == public_pem(key) and n.status != "unregistered"]
        return found[0].node_id if found else None

    def unregister(self, party: str) -> None:
        """Final for the key; the party may come back with another one."""
        known = self.registered()
        if party not in known:
            raise UsageError(f"no node of {party!r} is registered", f"Registered are: {', '.join(known) or 'none'}.")
        with self._control() as control:
            control.unregister(known[party].node_id)
        _replace(self.folder / RETIRED, [*self.retired(), known[party].public_key])
        self._keep({p: r for p, r in known.items() if p != party})

    def registered(self) -> dict[str, Registered]:
        file = self.folder / NODES
        raw = json.loads(file.read_text()) if file.exists() else {}
        return {party: Registered(party, int(r["node_id"]), r["public_key"]) for party, r in raw.items()}

    def retired(self) -> list[str]:
        """OpenSSH lines of keys that no party can have again."""
        file = self.folder / RETIRED
        return list(json.loads(file.read_text())) if file.exists() else []

    def _keep(self, known: dict[str, Registered]) -> None:
        plain = {p: {"node_id": r.node_id, "public_key": r.public_key} for p, r in known.items()}
        _replace(self.folder / NODES, plain)

    def nodes(self) -> list[NodeStatus]:
        """Every registered node, with its status and when it was last seen."""
        with self._control() as control:
            return control.nodes()

    # -- runs ------------------------------------------------------------------------------------
    def submit(self, job: Path) -> int:
        """Start the run of a job folder, or go on with it from its checkpoint; returns Flower's run id.

        A run of the same folder that is still listed as live is stopped first. The folder is told which public keys
        its parties have. Raises UsageError for a party without a registered node.
        """
        job = Path(job).absolute()
        if not (job / "job.json").exists():
            raise UsageError(f"{job} is no job folder", "Write its job.json first.")
        known = self.registered()
        parties = [p.id for p in Job.from_json((job / "job.json").read_text()).roster.parties]
        if missing := [p for p in parties if p not in known]:
            raise UsageError(f"no node is registered for {', '.join(missing)}", "Register their keys first.")
        keys = {p: public_pem(load_public(known[p].public_key.encode())).decode() for p in parties}
        (job / NODES).write_text(json.dumps(keys, indent=1))
        with self._control() as control:
            for run in control.runs():
                if run.job == str(job) and not run.finished:
                    control.stop_run(run.run_id)
            return control.start_run(build_fab(), {"job": str(job)})

    def runs(self) -> list[RunInfo]:
        with self._control() as control:
            return control.runs()

    def run(self, run_id: int) -> RunInfo:
        found = [run for run in self.runs() if run.run_id == run_id]
        if not found:
            raise UsageError(f"SuperLink knows no run {run_id}", "List the runs.")
        return found[0]

    def wait(self, run_id: int, seconds: float) -> RunInfo:
        """Until the run is over, also where SuperLink dies and is started again meanwhile.

        Raises DeploymentError when the run is not over in time, or nothing runs any more.
        """
        give_up = time.monotonic() + seconds
        while True:
            try:
                if (run := self.run(run_id)).finished:
                    return run
                status = run.status
            except DeploymentError:
                if not self.running:
                    raise
                status = "out of reach"
            if time.monotonic() > give_up:
                raise DeploymentError(f"run {run_id} is still {status} after {seconds:.0f} s", "Look at its log.")
            time.sleep(_LOOK_S)

    def stop_run(self, run_id: int) -> None:
        with self._control() as control:
            control.stop_run(run_id)

    def logs(self, run_id: int) -> Iterator[str]:
        """The ServerApp's output so far, and on, until the run is over."""
        with self._control() as control:
            yield from control.logs(run_id)

    def _control(self) -> Control:
        from fedprofile.flower.control import Control

        return Control(self.address, self.authority.certificate)


def _replace(file: Path, plain: dict[str, Any] | list[str]) -> None:
    replace_private(file, json.dumps(plain, indent=1).encode())


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
