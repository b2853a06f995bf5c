"""Which layers of Flower's SuperLink are asked about what; that it still asks who calls is tests/flower/test_gate.py's."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from starlette.middleware import Middleware

from fedprofile.flower.lean_superlink import LAYERS, narrow, narrowed

SUPERLINK = importlib.import_module("flwr.superlink.main")


def test_flowers_layers_are_those_we_know():
    """A layer of another name would be asked about everything again; a new one may concern every path."""
    names = [layer.cls.__name__ for layer in SUPERLINK._get_middleware()]
    assert len(names) == len(set(names))
    assert set(names) - set(LAYERS) == {"BaseHTTPMiddleware", "ProtobufTranslationMiddleware", "NodeAuthMiddleware"}
    assert set(LAYERS) <= set(names)


def test_nodes_and_protocol_are_judged_as_before(monkeypatch):
    monkeypatch.setattr(SUPERLINK, "_get_middleware", SUPERLINK._get_middleware)
    before = SUPERLINK._get_middleware()
    assert narrow()
    after = SUPERLINK._get_middleware()
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        if old.cls.__name__ in LAYERS:
            assert new.args[0].cls is old.cls
        else:
            assert (new.cls, new.args, new.kwargs) == (old.cls, old.args, old.kwargs)


def test_a_release_without_the_list_is_left_alone(monkeypatch, caplog):
    monkeypatch.delattr(SUPERLINK, "_get_middleware")
    assert not narrow()
    assert "more time" in caplog.text


class ControlAuthenticationMiddleware:
    """By the name of Flower's."""

    def __init__(self, app, asked: list[str]) -> None:
        self.app, self.asked = app, asked

    async def __call__(self, scope, receive, send) -> None:
        self.asked.append(scope.get("path", scope["type"]))
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/control/list-runs", True),
        ("/v1/control/", True),
        ("/", True),
        ("/v1/fleetx", True),
        ("//v1/fleet/pull-messages", True),
        ("/v1/fleet/pull-messages", False),
        ("/v1/runtime/acquire-task", False),
    ],
)
def test_a_layer_is_asked_about_its_own_api_and_what_is_nobodys(path, asked):
    seen, reached = [], []

    async def app(scope, receive, send) -> None:
        reached.append(scope["path"])

    (layer,) = narrowed([Middleware(ControlAuthenticationMiddleware, asked=seen)])
    stack = layer.cls(app, *layer.args, **layer.kwargs)
    for kind in ("http", "websocket"):
        asyncio.run(stack({"type": kind, "path": path}, None, None))
    assert reached == [path, path]
    assert seen == [path] * (1 + asked)
