"""Flower's SuperLink, each of whose layers is asked only about the API that it is for.

SuperLink wraps every request in nine layers, of which five do nothing but hand on what is not for their API; handing
on costs more than SQLite does, and one process serves all. Which layer judges a request of its own API, and all of
node authentication, stay as they are. ``python -m fedprofile.flower.lean_superlink`` takes ``flower-superlink``'s
arguments.

Touches names that Flower does not promise (tests/flower/test_lean_superlink.py); a layer or list that goes by another
name is left as it is.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

CONTROL, FLEET, RUNTIME = "/v1/control/", "/v1/fleet/", "/v1/runtime/"
LAYERS = {
    "ControlSensitiveResponseMiddleware": CONTROL,
    "ControlAuthenticationMiddleware": CONTROL,
    "ControlLicenseMiddleware": CONTROL,
    "ControlEventLogMiddleware": CONTROL,
    "RuntimeTracingMiddleware": RUNTIME,
    "FleetEventLogMiddleware": FLEET,
}
"""Layers that look at the path themselves and hand on what is not below it."""


class Narrow:
    """``layer`` around ``app``, except for requests to the other two APIs."""

    def __init__(self, app: ASGIApp, layer: Middleware, api: str) -> None:
        self._app, self._layered = app, layer.cls(app, *layer.args, **layer.kwargs)
        self._others = tuple({CONTROL, FLEET, RUNTIME} - {api})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        other = scope["type"] == "http" and scope["path"].startswith(self._others)
        await (self._app if other else self._layered)(scope, receive, send)


def narrowed(layers: list[Middleware]) -> list[Middleware]:
    """The same layers in the same order."""
    apis = [LAYERS.get(getattr(layer.cls, "__name__", "")) for layer in layers]
    return [Middleware(Narrow, layer, api) if api else layer for layer, api in zip(layers, apis, strict=True)]


def narrow() -> bool:
    """Whether this release of Flower has the list of layers where we know it."""
    superlink: Any = importlib.import_module("flwr.superlink.main")
    listed: Callable[[], list[Middleware]] | None = getattr(superlink, "_get_middleware", None)
    if listed is None:
        log.warning("this release of Flower takes more time for a request")
        return False
    superlink._get_middleware = lambda: narrowed(listed())
    return True


if __name__ == "__main__":
    from flwr.superlink.cli.flower_superlink import flower_superlink

    narrow()
    flower_superlink()
