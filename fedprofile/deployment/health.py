"""A running node's health and metrics on loopback, for the partner's own monitoring. Counts, states and fixed names.

``GET /health`` is 200 while the coordinator lets this node in, also when it is paused, else 503; ``GET /metrics`` is
for Prometheus. Whoever has an account on this machine may read both; neither holds anything of a row, a key or a
message's content. While a node serves them its address lies in HOME/flower/health.json.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.deployment.meter import Meter
from fedprofile.deployment.metrics import CONTENT_TYPE, Family, gauge, labelled, render
from fedprofile.errors import FedprofileError, UsageError
from fedprofile.node.budgets import JournalTail, budgets
from fedprofile.node.home import NodeHome
from fedprofile.node.membership import pinned_roster
from fedprofile.node.plans import asked_plans

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from fedprofile.flower.resident import ResidentStatus

log = logging.getLogger(__name__)

FILE = Path("flower", "health.json")
LOOPBACK = "127.0.0.1"
_START_S, _ASK_S = 10.0, 3.0


class Health:
    """What a node's process says of itself; ``status`` is ``Resident.status``."""

    def __init__(self, home: NodeHome, status: Callable[[], ResidentStatus], meter: Meter) -> None:
        self.home, self._status, self._meter = home, status, meter
        self._tail, self._reading = JournalTail(home.keys / "journal.jsonl"), threading.Lock()

    def facts(self, now: float) -> dict[str, Any]:
        """``now``: seconds since 1970. Raises FedprofileError for a home that was changed by somebody else."""
        with self._reading:
            tally = self._tail.read()
            spent = budgets(self.home, tally, now)
            uploads, refusals = dict(tally.kinds), dict(tally.refused)
        pinned = pinned_roster(self.home)
        return {
            **asdict(self._status()),
            "party": self.home.config.party,
            "release": version("fedprofile"),
            "roster": pinned.version if pinned else 0,
            "plans": count_plans(self.home),
            "round": spent.round,
            "rounds": spent.rounds,
            "uploads": uploads,
            "refusals": refusals,
            "replies": dict(self._meter.replies),
            "reply_bytes": dict(self._meter.bytes),
            "uploads_left": {"run": spent.uploads_run.left, "day": spent.uploads_day.left},
            "openings_left": spent.openings.left,
            "label_eps": spent.label_eps,
        }


def families(facts: Mapping[str, Any]) -> list[Family]:
    """``Health.facts`` as metrics."""
    outcomes = {name: facts[name] for name in ("answered", "refused", "failed", "dropped")}
    return [
        labelled("fedprofile_info", "gauge", "Installed release.", "release", {facts["release"]: 1}),
        gauge("fedprofile_up", "1 while the coordinator lets this node in.", facts["connected"]),
        gauge("fedprofile_paused", "1 while nothing may leave this node.", facts["paused"]),
        gauge("fedprofile_busy", "1 while a message is in work.", facts["busy"]),
        gauge("fedprofile_last_contact_seconds", "When the coordinator last answered.", facts["last_contact"]),
        gauge("fedprofile_last_message_seconds", "When the last message came.", facts["last_message"]),
        gauge("fedprofile_roster_version", "Version of the pinned roster, 0 for none.", facts["roster"]),
        gauge("fedprofile_round", "Last round of the run that this node uploaded to.", facts["round"]),
        gauge("fedprofile_rounds", "Rounds of the approved plan.", facts["rounds"]),
        labelled("fedprofile_messages_total", "counter", "Since the start, by outcome.", "outcome", outcomes),
        labelled("fedprofile_reply_bytes_total", "counter", _BYTES, "type", facts["reply_bytes"]),
        labelled("fedprofile_replies_total", "counter", _REPLIES, "type", facts["replies"]),
        labelled("fedprofile_uploads_total", "counter", _UPLOADS, "kind", facts["uploads"]),
        labelled("fedprofile_refusals_total", "counter", _REFUSALS, "code", facts["refusals"]),
        labelled("fedprofile_uploads_left", "gauge", _LEFT, "window", facts["uploads_left"]),
        gauge("fedprofile_openings_left", "Score sums that limits still allow.", facts["openings_left"]),
        gauge("fedprofile_label_epsilon", _EPSILON, facts["label_eps"]),
        labelled("fedprofile_plans", "gauge", "Plans that asked, by decision.", "decision", facts["plans"]),
    ]


_LEFT = "Masked uploads that limits still allow, in the run and in the UTC day."
_BYTES = "Bytes of replies made since the start, by message type; while paused the last one has not left."
_REPLIES = "Replies made since the start, by message type."
_UPLOADS = "Masked uploads in the journal, retries included, by kind of sum."
_REFUSALS = "Requests in the journal that this node refused, by fixed code."
_EPSILON = "Epsilon per customer of the approved plan's label release, summed over its tasks; spent once for ever."


def count_plans(home: NodeHome) -> dict[str, int]:
    """How many plans asked, by decision."""
    counts = {"pending": 0, "approved": 0, "refused": 0}
    for asked in asked_plans(home):
        counts[asked.decision] += 1
    return counts


def make_app(health: Health) -> Starlette:
    """The ASGI application: two paths, and only under a name of this machine, so that no web page reads them."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def show(_: Request) -> Response:
        try:
            facts = health.facts(time.time())
        except FedprofileError as error:
            party = health.home.config.party
            return JSONResponse({"party": party, "connected": False, "trouble": str(error)}, 503)
        return JSONResponse(facts, 200 if facts["connected"] else 503)

    def metrics(_: Request) -> Response:
        try:
            return Response(render(families(health.facts(time.time()))), media_type=CONTENT_TYPE)
        except FedprofileError as error:
            return PlainTextResponse(str(error), 503)

    routes = [Route("/health", show), Route("/metrics", metrics)]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])
    return Starlette(routes=routes, middleware=[hosts])


class HealthServer:
    """``with HealthServer(health, port):`` serves in a thread; port 0 lets the system choose one."""

    def __init__(self, health: Health, port: int = 0) -> None:
        """Raises UsageError for a port that is taken."""
        import uvicorn

        self._file = health.home.path / FILE
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            self._socket.close()
            raise UsageError(f"port {port} of {LOOPBACK} is not free", "Name another with --health-port.") from None
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            make_app(health), access_log=False, log_level="warning", lifespan="off", ws="none",
            server_header=False, date_header=False, limit_concurrency=16,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> HealthServer:
        self._thread.start()
        give_up = time.monotonic() + _START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < give_up:
            time.sleep(0.01)
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._file.with_name(self._file.name + ".new")
        temporary.write_text(json.dumps({"address": f"{LOOPBACK}:{self.port}"}))
        temporary.replace(self._file)
        log.info("health and metrics at http://%s:%d", LOOPBACK, self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.unlink(missing_ok=True)
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def ask(home: NodeHome) -> dict[str, Any] | None:
    """What the running process says; None where none answers, or another one under the address that a crash left."""
    import httpx

    try:
        address = json.loads((home.path / FILE).read_text())["address"]
        # a proxy of this machine must not stand between two of its processes
        facts: dict[str, Any] = httpx.get(f"http://{address}/health", timeout=_ASK_S, trust_env=False).json()
        return facts if facts["party"] == home.config.party else None
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError):
        return None
