"""A small federation in memory: everything between the parties is bytes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.encoding import quantise
from fedprofile.secagg.identity import Identity, sign_roster
from fedprofile.secagg.resilient_client import ResilientSession
from fedprofile.secagg.resilient_server import ResilientServer
from fedprofile.secagg.server import ServerSession
from fedprofile.types import Layout, Opened, Party, Policy, Quantised, Roster, RoundId, Segment

# The adversary's modules, which pytest's importlib mode does not put on the path.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("adversary", "malice", "verdict")

RUN = bytes(range(32))
MIXED = Layout(
    (
        Segment("w", (7, 3), 16, 1.0, 2**-10),
        Segment("head", (4,), 64, 2.0**40, 1.0),
        Segment("b", (5,), 32, 1.0, 2**-20),
        Segment("v", (11,), 16, 1.0, 2**-10),
    )
)


def stream(seed: str) -> Callable[[int], bytes]:
    """A deterministic byte source: SHA-256 in counter mode."""
    state = {"n": 0}

    def rand(n: int) -> bytes:
        out = b""
        while len(out) < n:
            out += hashlib.sha256(f"{seed}/{state['n']}".encode()).digest()
            state["n"] += 1
        return out[:n]

    return rand


class Federation:
    """A coordinator and n nodes; the first, "bank", owns the labels, the others share the role "tax"."""

    def __init__(
        self,
        n: int,
        policy: Policy | None = None,
        profile: str = "strict",
        seed: str = "a",
        *,
        hybrid: bool = False,
        run: bytes = RUN,
    ) -> None:
        self.names = tuple(["bank"] + [f"tax{i}" for i in range(1, n)])
        self.ids = {p: Identity.from_seed(hashlib.sha256(p.encode()).digest()) for p in self.names}
        parties = tuple(Party(p, p, "bank" if p == "bank" else "tax", self.ids[p].sign_pk) for p in self.names)
        self.roster = sign_roster(Roster(1, b"", parties, "bank"), self.ids)
        default = Policy(accept_differencing=profile == "resilient")
        self.policy, self.profile, self.seed, self.run = policy or default, profile, seed, run
        self.hybrid = hybrid
        self.journals: dict[str, list[dict[str, Any]]] = {p: [] for p in self.names}
        server = ResilientServer if profile == "resilient" else ServerSession
        self.server = server(run, self.roster, self.policy, self.names, profile, hybrid=hybrid)
        self.nodes = {p: self.session(p) for p in self.names}

    def session(self, name: str, **options: Any) -> ClientSession:
        options = {"hybrid": self.hybrid, **options}
        if self.profile == "resilient":
            return ResilientSession(*self.arguments(name), **options)
        return ClientSession(*self.arguments(name), masked=self.profile != "none", **options)

    def arguments(self, name: str, policy: Policy | None = None) -> tuple[Any, ...]:
        journal = self.journals[name].append
        rand = stream(f"{self.seed}/{name}")
        return self.ids[name], name, self.roster, policy or self.policy, rand, journal

    def set_up(self, base_t: int = 0) -> Federation:
        request = self.server.setup_request(base_t)
        bundle = self.server.key_bundle({p: s.handle(request) for p, s in self.nodes.items()})
        self.server.open_bundle({p: s.handle(bundle) for p, s in self.nodes.items()})
        assert all(s.handle(self.server.open_bundle_for(p)) is None for p, s in self.nodes.items())
        return self

    def id(self, kind: str = "update", t: int = 0, attempt: int = 0, scope: str = "") -> RoundId:
        return RoundId(self.run, kind, scope, t, attempt, "bank" if kind == "score" else "")

    def upload(self, name: str, round: bytes, quantised: Quantised) -> bytes:
        return self.nodes[name].contribute(self.nodes[name].verify_round(round), quantised)

    def uploads(self, round: bytes, values: Mapping[str, Quantised]) -> dict[str, bytes]:
        return {p: self.upload(p, round, q) for p, q in values.items()}

    def open(
        self,
        layout: Layout,
        values: Mapping[str, Quantised],
        lost: Mapping[str, int] | None = None,
        *,
        round_id: RoundId | None = None,
    ) -> Opened:
        """One resilient sum. lost: party -> how many messages of this round it still sends (Upload, Agree, Reveal)."""
        id, lost = round_id or self.id(), lost or {}
        data = self.server.round(id, tuple(values), layout, b"m")
        for p in values:
            if lost.get(p, 3) > 0:
                self.server.add(id, p, self.upload(p, data, values[p]))
        asked = self.server.survivors(id)
        for p in self.server._pending[id.kind, id.scope].survivors if asked else ():
            if lost.get(p, 3) > 1:
                self.server.agree(id, p, self.nodes[p].handle(asked))
        for p, request in self.server.requests(id).items():
            if lost.get(p, 3) > 2:
                self.server.reveal(id, p, self.nodes[p].handle(request))
        return self.server.open(id)

    def integers(self, layout: Layout = MIXED, seed: int = 0) -> dict[str, Quantised]:
        rng = np.random.default_rng(seed)
        return {
            p: quantise(
                {s.name: rng.uniform(-s.clip, s.clip, s.shape) for s in layout.segments}, layout, stream(f"{seed}{p}")
            )
            for p in self.names
        }


def plain_sum(layout: Layout, values: Mapping[str, Quantised]) -> dict[str, np.ndarray]:
    """What a sum has to open to: Python integers, then one multiplication."""
    out = {}
    for s in layout.segments:
        total = np.zeros(s.shape, dtype=object)
        for q in values.values():
            total = total + q.values[s.name].view(f"i{s.ring // 8}").astype(object)
        out[s.name] = total.astype(np.float64) * s.scale
    return out


@pytest.fixture(scope="session")
def federate() -> type[Federation]:
    return Federation


@pytest.fixture(scope="session")
def layout() -> Layout:
    return MIXED


@pytest.fixture(scope="session")
def expected() -> Callable[..., dict[str, np.ndarray]]:
    return plain_sum


@pytest.fixture(scope="session")
def byte_stream() -> Callable[[str], Callable[[int], bytes]]:
    return stream


@pytest.fixture(scope="session")
def score_layout() -> Layout:
    return Layout((Segment("scores", (4096, 4), 16, 8.0, 1 / 16),))


@pytest.fixture(scope="session")
def narrower() -> Callable[..., Policy]:
    return lambda **limits: replace(Policy(), **limits)
