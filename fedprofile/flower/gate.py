"""The only face to partners: TLS, and nothing behind it but the Fleet paths that a node needs.

SuperLink serves its Control and Runtime APIs, which ask nobody for a name, on the same port; so it listens on
loopback and this gate forwards ``POST`` to an exact list of paths. Everything else is 404, also what would become
such a path after decoding. Node authentication stays SuperLink's: the signed headers pass through untouched.

``python -m fedprofile.flower.gate SETTINGS.json`` runs one until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from fedprofile.secagg.wire import MAX_MEMBERS

log = logging.getLogger(__name__)

FLEET_PATHS = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "get-run",
        "pull-messages",
        "push-messages",
        "pull-object",
        "push-object",
        "confirm-message-received",
    )
)
STOCK_PATHS = frozenset({"/v1/fleet/get-fab"})
"""What a stock SuperNode asks for besides; a resident node never does."""

REQUEST_HEADERS = frozenset(
    {
        "content-type",
        "accept",
        "flwr-public-key",
        "flwr-signature",
        "flwr-timestamp",
        "flwr-package-name",
        "flwr-package-version",
        "flwr-component-name",
    }
)
RESPONSE_HEADERS = frozenset({"content-type", "flwr-version-incompatibility-message"})
MAX_BODY = 256 * 2**20
"""Bytes of one request: an object of Flower is at most one chunk, and ours far smaller."""
SMALL_BODY = 2**20
CONNECTIONS = 4 * MAX_MEMBERS
"""More than all nodes have; those that are idle count."""
SILENT_S = 30
"""A connection without a request is closed after this long, and before twice that."""
CONNECT_S, ANSWER_S, BODY_IDLE_S = 5.0, 60.0, 30.0


@dataclass(frozen=True)
class GateSettings:
    """``upstream`` is SuperLink's https://127.0.0.1:port; ``ca`` is what its certificate is checked against.

    ``stock`` lets stock SuperNodes in, for research machines.
    """

    host: str
    port: int
    upstream: str
    ca: str
    certificate: str
    key: str
    max_body: int = MAX_BODY
    stock: bool = False

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self), indent=1))
        return path

    @staticmethod
    def read(path: Path) -> GateSettings:
        return GateSettings(**json.loads(path.read_text()))


class _BadBody(Exception):
    """Not as long as declared."""


def make_gate(settings: GateSettings) -> Starlette:
    """The ASGI application."""
    allowed = FLEET_PATHS | (STOCK_PATHS if settings.stock else frozenset())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        verify = ssl.create_default_context(cafile=settings.ca)
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        limits = httpx.Limits(max_keepalive_connections=32)
        # trust_env off: a proxy of this machine must not stand between the gate and loopback
        async with httpx.AsyncClient(
            base_url=settings.upstream, verify=verify, timeout=timeout, limits=limits, trust_env=False
        ) as client:
            app.state.client = client
            yield

    async def forward(request: Request) -> Response:
        path = request.scope.get("raw_path", b"").split(b"?")[0].decode("latin-1")
        if request.method != "POST" or path not in allowed or request.scope.get("query_string"):
            return Response(status_code=404)
        declared = request.headers.get("content-length", "")
        if not declared.isdecimal() or int(declared) > settings.max_body:
            return Response(status_code=413 if declared.isdecimal() else 411)
        client: httpx.AsyncClient = request.app.state.client
        headers = {k: v for k, v in request.headers.items() if k in REQUEST_HEADERS}
        headers |= {"content-length": declared, "accept-encoding": "identity"}
        body = _limited(request, int(declared))
        try:
            # most requests are small: one write each way instead of two or three
            content = b"".join([c async for c in body]) if int(declared) <= SMALL_BODY else body
            answer = await client.send(
                client.build_request("POST", path, headers=headers, content=content), stream=True
            )
            if int(answer.headers.get("content-length", SMALL_BODY + 1)) <= SMALL_BODY:
                await answer.aread()
        except (_BadBody, ClientDisconnect, TimeoutError):
            return Response(status_code=400)
        except httpx.TransportError as error:
            log.warning("SuperLink does not answer: %s", type(error).__name__)
            return Response(status_code=503)
        kept = {k: v for k, v in answer.headers.items() if k in RESPONSE_HEADERS}
        if answer.is_closed:
            return Response(answer.content, answer.status_code, kept)
        return StreamingResponse(_closing(answer), answer.status_code, kept)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":  # no websocket, which uvicorn does not offer here either
            await (await forward(Request(scope, receive)))(scope, receive, send)

    return Starlette(routes=[Mount("/", serve)], lifespan=lifespan)


async def _limited(request: Request, size: int) -> AsyncIterator[bytes]:
    """The body, as long as it was declared to be and never slower than a chunk in BODY_IDLE_S."""
    stream, left = request.stream(), size
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), BODY_IDLE_S)
        except StopAsyncIteration:
            break
        left -= len(chunk)
        if left < 0:
            raise _BadBody
        yield chunk
    if left:
        raise _BadBody


async def _closing(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


class _Server(uvicorn.Server):
    """Closes connections on which nobody asks anything, which uvicorn keeps for ever and counts as work."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._seen: dict[Any, Any] = {}

    async def on_tick(self, counter: int) -> bool:
        if counter % (10 * SILENT_S) == 0:  # uvicorn ticks ten times a second
            # each request has a cycle of its own: the same one as at the last look, and answered, is silence
            held = {c: getattr(c, "cycle", None) for c in self.server_state.connections}
            for connection, cycle in held.items():
                silent = connection in self._seen and cycle is self._seen[connection]
                if silent and (cycle is None or cycle.response_complete):
                    connection.transport.close()
            self._seen = held
        return await super().on_tick(counter)


def make_server(settings: GateSettings) -> uvicorn.Server:
    config = uvicorn.Config(
        make_gate(settings),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        access_log=False,
        log_level="warning",
        ws="none",
        server_header=False,
        date_header=False,
        timeout_keep_alive=SILENT_S,
        limit_concurrency=CONNECTIONS,
    )
    return _Server(config)


def serve_gate(settings: GateSettings) -> None:
    """Serve until SIGTERM."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < (wanted := 2 * CONNECTIONS):  # often 1024
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most) if most >= 0 else wanted, most))
    make_server(settings).run()


if __name__ == "__main__":
    logging.getLogger("httpx").setLevel(logging.WARNING)
    serve_gate(GateSettings.read(Path(sys.argv[1])))
