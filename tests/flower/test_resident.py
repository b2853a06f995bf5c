"""A resident node against a real SuperLink: what it serves, what it refuses, and that a crash or a pause loses nothing.

The nodes are threads with a ClientApp of the test; the ServerApp is fleet_echo, in a process of Flower's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fleet_echo import PYPROJECT
from flwr.app import Context, Message
from flwr.cli.build import build_fab_from_files
from flwr.clientapp import ClientApp

from fedprofile.errors import DeploymentError
from fedprofile.flower.fleet import APP_RAISED, REFUSED_APP
from fedprofile.flower.records import pack, unpack
from fedprofile.flower.resident import Resident, ResidentSettings

FAB = build_fab_from_files({"pyproject.toml": PYPROJECT})[0]
HASH = hashlib.sha256(FAB).hexdigest()
SECRET = "EXAMPLE-0001 has tier 2"


def echo(message: Message, context: Context) -> Message:
    return Message(pack(b"echo " + unpack(message)), reply_to=message)


class Nodes:
    """Resident nodes in threads of this process, by name."""

    def __init__(self, deployment, root: Path) -> None:
        self.deployment, self.root = deployment, root
        self.running: dict[str, tuple[Resident, threading.Thread]] = {}
        self.refused: dict[str, list[str]] = {}

    def make(self, name: str, answer=echo, may_send=lambda: True, **changes) -> Resident:
        app = ClientApp()
        app.query()(answer)
        settings = self.deployment.settings.get(name) or self.deployment.enrol(name, self.root / name)
        plain = json.loads(settings.to_json()) | {"allowed_fabs": [HASH], "poll_s": 0.25} | changes
        said = self.refused.setdefault(name, [])
        settings = ResidentSettings.from_json(json.dumps(plain, default=str))
        return Resident(settings, app, may_send, on_refusal=said.append)

    def start(self, name: str, resident: Resident) -> Resident:
        thread = threading.Thread(target=resident.run)
        thread.start()
        self.running[name] = resident, thread
        return resident

    def stop(self, name: str) -> None:
        resident, thread = self.running.pop(name)
        resident.stop()
        thread.join(20)
        assert not thread.is_alive()

    def ask(self, *asks: tuple[str, str, str], config: dict[str, str] | None = None) -> tuple[int, Path]:
        """Start a run that asks; returns its id and where the answers will be."""
        job, out = self.root / f"{len(list(self.root.iterdir()))}.job", self.root / f"{time.monotonic_ns()}.out"
        names = {name for name, *_ in asks}
        job.write_text(json.dumps({"nodes": len(names), "ask": asks, "out": str(out)}))
        with self.deployment.link._control() as control:
            return control.start_run(FAB, {"job": str(job), **(config or {})}), out

    def answers(self, out: Path, seconds: float = 60) -> list:
        give_up = time.monotonic() + seconds
        while not out.exists():
            assert time.monotonic() < give_up, "no answers"
            time.sleep(0.1)
        time.sleep(0.05)
        return json.loads(out.read_text())


@pytest.fixture
def nodes(deployment, tmp_path):
    made = Nodes(deployment, tmp_path)
    yield made
    for name in list(made.running):
        made.stop(name)


def wait_for(what, seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_what_a_node_serves_and_what_it_refuses(nodes, monkeypatch):
    """One run asks four nodes; only what a node's own list, types and code allow comes back, and no exception's text."""

    def fails(message, context):
        raise ValueError(SECRET)

    def told(message, context):
        config = {**context.run_config, **{k: v for k, v in context.node_config.items() if k != "home"}}
        return Message(pack(json.dumps([config, dict(context.state)]).encode()), reply_to=message)

    residents = {
        "serves": nodes.make("serves"),
        "picky": nodes.make("picky", allowed_fabs=["0" * 64]),
        "fails": nodes.make("fails", fails),
        "told": nodes.make("told", told),
    }
    fleet, fetched = residents["serves"]._fleet, []
    fetch = fleet._object
    monkeypatch.setattr(fleet, "_object", lambda run, id: fetched.append(id) or fetch(run, id))
    for name, resident in residents.items():
        nodes.start(name, resident)
    asks = [("serves", "query", "a"), ("serves", "train", "b"), ("serves", "query.other", "c"), ("picky", "query", "d")]
    run, out = nodes.ask(*asks, ("fails", "query", "e"), ("told", "query", "f"))
    assert [found[2:] for found in nodes.answers(out)] == [
        [None, "echo a"],
        [[APP_RAISED, "message_type_not_allowed"], None],
        [[APP_RAISED, "message_type_not_allowed"], None],
        [[REFUSED_APP, "bundle_not_allowed"], None],
        [[APP_RAISED, "ValueError"], None],
        [None, "[{}, {}]"],
    ]
    assert nodes.deployment.link.wait(run, 60).outcome == "completed"
    status = {name: resident.status() for name, resident in residents.items()}
    assert all(s.connected and not s.busy and s.run_id == run for s in status.values())
    assert [(s.answered, s.refused, s.failed) for s in status.values()] == [(1, 2, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)]
    assert nodes.refused == {
        "serves": ["message_type_not_allowed"] * 2, "picky": ["bundle_not_allowed"], "fails": ["ValueError"], "told": [],
    }  # fmt: skip
    assert not (nodes.root / "apps").exists(), "no bundle was fetched"
    assert len(fetched) == 2 + 1 + 1, "of three messages the bytes, and of the first what tells the sender's task"

    run, out = nodes.ask(("serves", "query", "g"), config={"rounds": "4"})
    assert nodes.answers(out)[0][2] == [REFUSED_APP, "config_not_allowed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_crash_a_pause_and_a_jumping_clock_lose_no_message(nodes, monkeypatch):
    """The message is answered once, whatever happened in between."""
    seen: list[str] = []

    def crash(message, context):
        seen.append("crashed")
        raise SystemExit  # nothing catches it, as nothing catches a kill -9: journal and Flower's claim stay

    first = nodes.make("unlucky", crash)
    monkeypatch.setattr(first._fleet, "leave", lambda: None)
    thread = threading.Thread(target=first.run)  # which SystemExit ends without a word
    thread.start()
    run, out = nodes.ask(("unlucky", "query", "x"))
    thread.join(60)
    assert seen == ["crashed"]
    assert (nodes.deployment.settings["unlucky"].state / "inflight.bin").exists()

    open_gate = threading.Event()
    second = nodes.start("unlucky", nodes.make("unlucky", may_send=open_gate.is_set))
    wait_for(lambda: second.status().paused)
    assert second.status().busy
    assert second.status().answered == 0
    time.sleep(1.0)
    assert not out.exists(), "a paused node lets nothing out"
    monkeypatch.setattr("flwr.supernode.node_auth_http_interceptor.now", lambda: datetime.now(UTC) + timedelta(hours=1))
    open_gate.set()
    wait_for(lambda: "signature" in second.status().trouble)
    assert not out.exists()
    monkeypatch.undo()
    assert nodes.answers(out) == [["unlucky", "query", None, "echo x"]]
    wait_for(lambda: not (nodes.deployment.settings["unlucky"].state / "inflight.bin").exists())
    assert nodes.deployment.link.wait(run, 60).outcome == "completed"


def test_a_stop_waits_for_the_message_in_work(nodes):
    begun, go = threading.Event(), threading.Event()

    def slow(message, context):
        begun.set()
        go.wait(30)
        return echo(message, context)

    nodes.start("slow", nodes.make("slow", slow))
    _, out = nodes.ask(("slow", "query", "x"))
    assert begun.wait(60)
    resident, thread = nodes.running.pop("slow")
    left = threading.Event()
    leave, resident._fleet.leave = resident._fleet.leave, lambda: (left.wait(60), leave())
    resident.stop()
    go.set()
    assert nodes.answers(out) == [["slow", "query", None, "echo x"]]
    left.set()
    thread.join(20)
    assert not resident.status().connected


@pytest.mark.nightly
def test_a_message_that_was_handed_out_and_never_arrived_is_sent_again(nodes, monkeypatch):
    """SuperLink marks a message as delivered before its answer is through; the line may break just then."""
    resident, lost = nodes.make("unheard"), []
    pull = resident._fleet.pull

    def lossy():
        delivery = pull()
        if delivery is not None and not lost:
            lost.append(delivery.message_id)
            return None
        return delivery

    monkeypatch.setattr(resident._fleet, "pull", lossy)
    nodes.start("unheard", resident)
    run, out = nodes.ask(("unheard", "exchange", "x"))
    assert nodes.answers(out) == [["unheard", "exchange", None, "echo x"]]
    assert lost
    assert nodes.deployment.link.wait(run, 60).outcome == "completed"


@pytest.mark.parametrize("damage", [b"", b"\xff\xff", b"{}"])
def test_a_damaged_state_does_not_keep_a_node_from_coming_back(nodes, damage):
    resident = nodes.make("damaged")
    for file in ("inflight.bin", "node_id"):
        (resident.settings.state / file).write_bytes(damage)
    nodes.start("damaged", resident)
    wait_for(lambda: resident.status().connected)


class Cutter:
    """A path to the gate that delays, cuts connections in the middle and lets a byte through at a time; seeded."""

    def __init__(self, address: str, seed: int) -> None:
        self.host, _, self.port = address.rpartition(":")
        self.rand, self.cuts = random.Random(seed), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            onward = socket.create_connection((self.host, int(self.port)))
            left = self.rand.choice([10**9, 4000, 9000, 20000])
            for source, target in ((wire, onward), (onward, wire)):
                threading.Thread(target=self._pipe, args=(source, target, left), daemon=True).start()

    def _pipe(self, source: socket.socket, target: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(self.rand.choice([1, 100, 65536])):
                time.sleep(self.rand.random() * 0.002)
                target.sendall(data[:left])
                left -= len(data)
                if left <= 0:
                    self.cuts += 1
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.nightly
def test_a_line_that_is_cut_again_and_again_changes_no_answer(nodes, deployment):
    cutter = Cutter(deployment.link.gate_address, seed=3)
    deployment.enrol("faraway", nodes.root / "faraway")
    answered: list[str] = []

    def once(message, context):
        answered.append(unpack(message).decode())
        return echo(message, context)

    nodes.start("faraway", nodes.make("faraway", once, coordinator=cutter.address))
    texts = [str(i) * 3000 for i in range(4)]
    _, out = nodes.ask(*[("faraway", "query", text) for text in texts])
    assert [found[3] for found in nodes.answers(out, 120)] == ["echo " + text for text in texts]
    assert answered == texts
    assert cutter.cuts > 1, "how often depends on how bytes arrive"
    nodes.stop("faraway")
    cutter.listener.close()


# -- behind a company's proxy --------------------------------------------------------------------------
@pytest.fixture
def proxy(tmp_path):
    """``proxy()`` starts a forward proxy that asks for a user and password, on the same port each time."""
    pytest.importorskip("proxy", reason="proxy.py is not installed (pip install fedprofile[dev])")
    running = []

    def start() -> subprocess.Popen[bytes]:
        port = running[0].port if running else 0
        words = ["--hostname", "127.0.0.1", "--port", str(port), "--port-file", str(tmp_path / "port")]
        words += ["--num-acceptors", "1", "--num-workers", "1", "--basic-auth", "node:its words"]
        words += ["--log-level", "INFO", "--log-file", str(tmp_path / "proxy.log")]
        (tmp_path / "port").unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-m", "proxy", *words], start_new_session=True)
        running.append(child)
        wait_for(lambda: (tmp_path / "port").exists() and (tmp_path / "port").read_text().strip())
        child.port = int((tmp_path / "port").read_text())
        return child

    yield start
    for child in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(10)


@pytest.mark.nightly
def test_a_node_works_through_a_real_proxy_and_outlives_its_restart(nodes, proxy, tmp_path, monkeypatch):
    """All that leaves the node is CONNECT to the gate; what the proxy refuses is said in words."""
    running = proxy()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    def dial(user: str) -> None:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://{user}@127.0.0.1:{running.port}")

    dial("node:guessed")
    with pytest.raises(DeploymentError, match="proxy that HTTPS_PROXY names does not let") as refused:
        nodes.make("behind").run()
    assert "CONNECT" in refused.value.mend
    assert "guessed" not in str(refused.value)

    dial("node:its%20words")
    behind = nodes.start("behind", nodes.make("behind"))
    wait_for(lambda: behind.status().connected)
    _, out = nodes.ask(("behind", "query", "a"))
    assert nodes.answers(out) == [["behind", "query", None, "echo a"]]

    os.killpg(running.pid, signal.SIGKILL)
    running.wait(10)
    wait_for(lambda: behind.status().trouble)
    running = proxy()
    wait_for(lambda: not behind.status().trouble)
    _, out = nodes.ask(("behind", "query", "b"))
    assert nodes.answers(out) == [["behind", "query", None, "echo b"]]
    nodes.stop("behind")
    told = re.findall(r"CONNECT (\S+)", (tmp_path / "proxy.log").read_text())
    assert set(told) == {nodes.deployment.link.gate_address, "None:None"}, "the second is the refused one"
