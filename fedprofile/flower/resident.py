"""A partner's resident node: one process that answers the coordinator with code that is installed here, nothing else.

A stock SuperNode fetches and imports whatever bundle the coordinator sends, and starts a Python for every message.
This one never fetches a bundle: it knows one ClientApp, from the installed package; refuses a run whose bundle hash
is not on its own list, a message type that it does not know and a run that brings configuration; keeps torch and the
private state warm; and says of an exception only its type.

Use: ``Resident(ResidentSettings(...), may_send=...)``, then ``run()`` in a thread or process of its own until
``stop()``; ``status()`` may be asked at any time. ``python -m fedprofile.flower.resident SETTINGS.json`` does both.

::

    STATE/inflight.bin   the message that is being worked on, so that a kill -9 does not lose it
    STATE/node_id        Flower's id of this node, with which it goes on after a crash
    STATE/lock           locked while a process runs this node
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedprofile.crash import crash_at
from fedprofile.errors import DeploymentError, UsageError
from fedprofile.flower.fleet import APP_RAISED, LOST, REFUSED_APP, Delivery, FleetClient, RunOver, Stopped, refusal
from fedprofile.flower.node_key import load_node_key
from fedprofile.flower.records import MESSAGE_TYPE, OTHER_RELEASE

log = logging.getLogger(__name__)

IGNORED_CONFIG = frozenset({"job"})
"""Keys of a run's configuration that concern the coordinator; a node reads none, and refuses a run with others."""
_IDLE_AFTER_S, _IDLE_POLL_S, _PAUSE_LOOK_S = 120.0, 1.0, 0.5


@dataclass(frozen=True)
class ResidentSettings:
    """``coordinator`` is host:port of the gate; ``root_certificates`` the federation's ca.crt; ``key`` the Flower key.

    ``allowed_fabs``: SHA-256 (hexadecimal) of the bundles that this node serves. ``state`` is a private folder.
    """

    home: Path
    coordinator: str
    root_certificates: Path
    key: Path
    state: Path
    allowed_fabs: tuple[str, ...]
    poll_s: float = 0.25
    heartbeat_s: float = 10.0

    def to_json(self) -> str:
        return json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}, indent=1)

    @staticmethod
    def from_json(text: str) -> ResidentSettings:
        raw: dict[str, Any] = json.loads(text)
        paths = {name: Path(raw[name]) for name in ("home", "root_certificates", "key", "state")}
        return ResidentSettings(**{**raw, **paths, "allowed_fabs": tuple(raw["allowed_fabs"])})


@dataclass(frozen=True)
class ResidentStatus:
    """A snapshot; times are seconds since the epoch, 0 for never. ``trouble`` says why ``connected`` is false."""

    connected: bool = False
    trouble: str = "not started"
    node_id: int = 0
    run_id: int = 0
    busy: bool = False
    paused: bool = False
    last_contact: float = 0.0
    last_message: float = 0.0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    dropped: int = 0


class Resident:
    """``may_send`` is asked before each reply leaves; while it says no, the reply waits here and nothing is pulled.

    ``on_refusal`` is told the fixed reason of each error that Flower carries instead of a reply, before it leaves.
    """

    def __init__(
        self,
        settings: ResidentSettings,
        app: ClientApp | None = None,
        may_send: Callable[[], bool] = lambda: True,
        passphrase: bytes | None = None,
        on_refusal: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings, self._may_send, self._on_refusal = settings, may_send, on_refusal
        self._app = app or _installed_app()
        self._stop = threading.Event()
        self._noting, self._status = threading.Lock(), ResidentStatus()
        self._fleet = FleetClient(
            settings.coordinator,
            settings.root_certificates,
            load_node_key(settings.key, passphrase),
            self._stop,
            ask_leave=self._ask_leave,
        )
        self._judged: dict[int, tuple[int, str] | None] = {}
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._inflight = settings.state / "inflight.bin"
        self._id_file = settings.state / "node_id"

    def stop(self) -> None:
        """After the message in work; a reply that may not leave stays noted and is made again at the next start."""
        self._stop.set()

    def status(self) -> ResidentStatus:
        return replace(self._status, trouble=self._fleet.trouble or self._status.trouble)

    def run(self, beside: AbstractContextManager[Any] | None = None) -> None:
        """Blocks until ``stop``; ``beside`` is held meanwhile.

        Raises DeploymentError where the coordinator does not let this node in, UsageError where it runs already.
        """
        with self._alone(), beside or nullcontext():
            self._run()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes of one node would take each other's messages, and work on one home."""
        with open(self.settings.state / "lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"the node of {self.settings.home} runs already", "Stop that one first.") from None
            yield

    def _run(self) -> None:
        _warm()
        try:
            node_id = self._fleet.join(self._known(), self.settings.heartbeat_s)
        except Stopped:
            return
        _write(self._id_file, str(node_id).encode())
        self._note(connected=True, trouble="", node_id=node_id, last_contact=time.time())
        log.info("node %d is online", node_id)
        beating = threading.Thread(target=self._beat, daemon=True)
        beating.start()
        try:
            self._serve()
        except Stopped:
            log.info("stopped while the coordinator was out of reach")
        finally:
            self._stop.set()
            beating.join()
            self._fleet.leave()
            self._fleet.close()
            self._note(connected=False, trouble="stopped")

    def _known(self) -> int | None:
        try:
            return int(self._id_file.read_text())
        except (OSError, ValueError):
            return None

    # -- messages --------------------------------------------------------------------------------
    def _serve(self) -> None:
        if self._inflight.exists() and (interrupted := Delivery.load(self._inflight.read_bytes())):
            log.warning("doing again the message that a crash interrupted")
            self._handle(interrupted)
        last = time.monotonic()
        while not self._stop.is_set():
            if not self._ask_leave():
                break
            delivery = self._fleet.pull()
            self._note(last_contact=time.time())
            if delivery is not None:
                _write(self._inflight, delivery.raw)
                crash_at("invited")
                self._handle(delivery)
                last = time.monotonic()
            # after an answer too, since the next request hangs on all nodes' answers
            idle = time.monotonic() - last > _IDLE_AFTER_S
            self._stop.wait(_IDLE_POLL_S if idle else self.settings.poll_s)

    def _handle(self, delivery: Delivery) -> None:
        self._note(busy=True, run_id=delivery.run_id, last_message=time.time())
        try:
            self._answer(delivery)
        except RunOver:
            log.info("the run is over, its message is dropped")
            self._note(dropped=self._status.dropped + 1)
        except Stopped:
            raise
        except Exception as error:  # a message that fails must not fail again at each start; the text may quote data
            log.error("the message is lost: %s", error if isinstance(error, DeploymentError) else type(error).__name__)
            self._note(dropped=self._status.dropped + 1)
        finally:
            self._note(busy=False)
        self._inflight.unlink(missing_ok=True)

    def _answer(self, delivery: Delivery) -> None:
        if delivery.run_id not in self._judged:
            self._judged = {delivery.run_id: self._objection(delivery)}
        start = time.monotonic()
        reply = self._reply(delivery, self._judged[delivery.run_id])
        self._fleet.push(delivery, reply, time.monotonic() - start)
        crash_at("uploaded")
        self._fleet.confirm(delivery)
        if not reply.has_error():
            self._note(answered=self._status.answered + 1)

    def _reply(self, delivery: Delivery, objection: tuple[int, str] | None) -> Message:
        if objection:
            return self._refuse(delivery.head, *objection)
        try:
            return self._apply(self._fleet.fetch(delivery))
        except DeploymentError:  # the coordinator asks again
            return self._refuse(delivery.head, LOST, "content_lost")

    def _objection(self, delivery: Delivery) -> tuple[int, str] | None:
        """Error code and fixed reason for a run that this node does not serve."""
        run = self._fleet.run(delivery.run_id)
        if run.fab_hash not in self.settings.allowed_fabs:
            log.error("a run brings the bundle %s, which this node does not serve", run.fab_hash)
            return REFUSED_APP, OTHER_RELEASE
        if unknown := sorted(run.config.keys() - IGNORED_CONFIG):
            log.error("a run brings configuration: %d unknown keys", len(unknown))
            return REFUSED_APP, "config_not_allowed"
        return None

    def _refuse(self, message: Message, code: int, reason: str) -> Message:
        self._note(refused=self._status.refused + 1)
        self._on_refusal(reason)
        return refusal(code, reason, message)

    def _apply(self, message: Message) -> Message:
        if message.metadata.message_type != MESSAGE_TYPE:
            log.error("a message of an unknown type is refused")
            return self._refuse(message, APP_RAISED, "message_type_not_allowed")
        node = self._status.node_id
        context = Context(message.metadata.run_id, node, {"home": str(self.settings.home)}, RecordDict(), {})
        try:
            reply = self._app(message=message, context=context)
        except Exception as error:  # the text may quote data
            log.error("the ClientApp failed: %s", type(error).__name__)
            self._note(failed=self._status.failed + 1)
            self._on_refusal(type(error).__name__)
            return refusal(APP_RAISED, type(error).__name__, message)
        return reply

    def _ask_leave(self) -> bool:
        """Waits while the node is paused; false when it is stopped meanwhile."""
        while not self._may_send():
            self._note(paused=True)
            if self._stop.wait(_PAUSE_LOOK_S):
                return False
        self._note(paused=False)
        return True

    def _beat(self) -> None:
        interval = self.settings.heartbeat_s
        while not self._stop.wait(0.7 * interval):
            try:
                known = self._fleet.heartbeat(interval)
            except httpx.HTTPError as error:
                self._note(connected=False, trouble=f"no heartbeat: {type(error).__name__}")
                continue
            if not known:
                log.error("the coordinator does not know this node any more")
            trouble = "" if known else "unregistered"
            self._note(connected=known, trouble=trouble, last_contact=time.time())

    def _note(self, **changes: Any) -> None:
        with self._noting:
            self._status = replace(self._status, **changes)


def run_resident(settings: ResidentSettings, on_refusal: Callable[[str], None] = lambda _: None) -> None:
    """In the main thread, until SIGTERM or SIGINT."""
    resident = Resident(settings, on_refusal=on_refusal)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: resident.stop())
    resident.run()


def _installed_app() -> ClientApp:
    from fedprofile.flower.client_app import app

    return app


def _warm() -> None:
    """Import and touch what the first training round would otherwise wait for."""
    import torch
    from torch.optim.adamw import adamw  # noqa: F401 (what the training's optimiser loads)

    from fedprofile.label_owner import party  # noqa: F401
    from fedprofile.models import learner  # noqa: F401

    torch.set_num_threads(1)
    weight = torch.zeros(2, 2, requires_grad=True)
    torch.nn.functional.relu(weight @ weight).sum().backward()


def _write(path: Path, data: bytes) -> None:
    """Durable and whole when it returns, readable by this user only."""
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run_resident(ResidentSettings.from_json(Path(sys.argv[1]).read_text()))
