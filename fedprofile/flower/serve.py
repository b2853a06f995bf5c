"""Run the coordinator's processes in the foreground until SIGTERM, and start again what dies.

SuperLink (loopback, TLS, authenticated nodes, SQLite) and the executor of ServerApps are Flower's own commands, the
gate is ours. The executor runs beside SuperLink and not below it, so that a run outlives a crash of SuperLink.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from fedprofile.flower.gate import GateSettings
from fedprofile.flower.processes import SUPERVISOR
from fedprofile.flower.superlink import CHILDREN, SuperLink, free_port

log = logging.getLogger(__name__)

_LOOK_S, _FIRST_WAIT_S, _LONGEST_WAIT_S, _HEALTHY_S = 0.2, 0.5, 10.0, 30.0
_END_WITHIN_S = 10.0


def serve(folder: Path, ready: Callable[[SuperLink], None] | None = None) -> None:
    """Blocks until SIGTERM or SIGINT; ``ready`` is called once, when SuperLink and gate first answer.

    Raises UsageError where this folder is served already.
    """
    link = SuperLink(folder)
    ended = threading.Event()
    with link.processes.hold(SUPERVISOR):
        _Supervisor(link, ended).run(ready)


class _Supervisor:
    def __init__(self, link: SuperLink, ended: threading.Event) -> None:
        self.link, self.ended = link, ended
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.since: dict[str, float] = {}
        self.wait = dict.fromkeys(CHILDREN, _FIRST_WAIT_S)
        self.again: dict[str, float] = {}

    def run(self, ready: Callable[[SuperLink], None] | None) -> None:
        for left in CHILDREN:  # of a supervisor that was killed
            self.link.processes.end(left, _END_WITHIN_S)
        self._place()
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for name in CHILDREN:
                self._start(name)
            while not self.ended.wait(_LOOK_S):
                self._look_after()
                if ready is not None and self.link.ready():
                    ready(self.link)
                    ready = None
        finally:
            for name in reversed(CHILDREN):
                self.link.processes.end(name, _END_WITHIN_S)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.ended.set()

    def _place(self) -> None:
        """Where SuperLink and gate will be, for this serving; only the gate's port is fixed where settings fix it."""
        settings = self.link.settings
        port = settings.port or free_port(settings.host)
        self.superlink = f"127.0.0.1:{free_port()}"
        self.link.publish({"superlink": self.superlink, "gate": f"{_dialled(settings.host)}:{port}"})
        authority = self.link.authority
        self.gate = GateSettings(
            host=settings.host,
            port=port,
            upstream=f"https://{self.superlink}",
            ca=str(authority.certificate),
            certificate=str(authority.server_certificate),
            key=str(authority.server_key),
            stock=settings.stock,
        ).write(self.link.processes.folder / "gate.json")

    def _start(self, name: str) -> None:
        self.children[name] = self.link.processes.spawn(name, self._command(name), environment(self.link.folder))
        self.since[name] = time.monotonic()
        log.info("%s started", name)

    def _look_after(self) -> None:
        now = time.monotonic()
        for name, child in self.children.items():
            code = child.poll()
            if code is None:
                if now - self.since[name] > _HEALTHY_S:
                    self.wait[name] = _FIRST_WAIT_S
            elif name not in self.again:
                log.error("%s ended (%d); again in %.1f s", name, code, self.wait[name])
                self.again[name] = now + self.wait[name]
                self.wait[name] = min(2 * self.wait[name], _LONGEST_WAIT_S)
        for name in [n for n, due in self.again.items() if due <= now]:
            del self.again[name]
            self._start(name)

    def _command(self, name: str) -> list[str]:
        bin_dir, authority, folder = Path(sys.executable).parent, self.link.authority, self.link.folder
        secret = ["--superexec-auth-secret-file", str(folder / "superexec.secret")]
        if name == "superlink":
            host, _, port = self.superlink.rpartition(":")
            return [
                sys.executable, "-m", "fedprofile.flower.lean_superlink", "--host", host, "--port", port,
                "--ssl-certfile", str(authority.server_certificate), "--ssl-keyfile", str(authority.server_key),
                "--ssl-ca-certfile", str(authority.certificate), "--enable-supernode-auth",
                "--database", str(folder / "flower" / "state.db"), "--disable-runtime-dependency-installation",
                "--isolation", "process", *secret,
            ]  # fmt: skip
        if name == "superexec":
            trust = ["--root-certificates", str(authority.certificate)]
            return [str(bin_dir / "flower-superexec"), "--runtime-api-address", self.superlink, *trust, *secret]
        return [sys.executable, "-m", "fedprofile.flower.gate", str(self.gate)]


def environment(folder: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Of every process of Flower: its home inside ``folder``, nothing told to anybody, nothing installed."""
    local = ",".join(filter(None, [base.get("NO_PROXY", base.get("no_proxy", "")), "127.0.0.1", "localhost"]))
    return {
        **base,
        "FLWR_HOME": str(folder / "flower" / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "NO_PROXY": local,
        "no_proxy": local,
        # Flower starts its children by name
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)]),
    }


def _dialled(host: str) -> str:
    """How this machine reaches what listens at ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 (compared, not bound)
