"""Honest nodes, real sessions and homes, against a coordinator that does what it likes; and what it can open.

A node's integers are one-hot at its own index, with one more coordinate drawn for each fresh training: a replay
shows as a 2, a mask that does not cancel as noise, a retry with other integers as another sum.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.errors import ProtocolError
from fedprofile.secagg.client import ClientSession, State
from fedprofile.secagg.identity import Identity, sign_roster
from fedprofile.secagg.keys import PairKeys
from fedprofile.secagg.masking import add_masks
from fedprofile.secagg.messages import Round, SetupReq, Upload, message_type
from fedprofile.types import Layout, Party, Policy, Quantised, Roster, RoundId, Segment

OWNER, ROLE = "bank", "tax"
NODES, WIDTH, DRAW = 8, 12, 8
LAYOUT = Layout((Segment("x", (WIDTH,), 16, 8.0, 1 / 16),))
Vector = npt.NDArray[np.uint16]
RECENT = 10
BITS = {k: np.array([[i >> b & 1 for b in range(k)] for i in range(1 << k)], np.uint16) for k in range(RECENT + 1)}


class Violation(AssertionError):
    """An invariant of the protocol is broken."""


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


@cache
def identity(name: str) -> Identity:
    return Identity.from_seed(hashlib.sha256(name.encode()).digest())


@cache
def make_roster(n: int, sybil: bool = False) -> Roster:
    names = [OWNER, *(f"{ROLE}{i}" for i in range(1, n)), *(["sybil"] if sybil else [])]
    parties = tuple(Party(p, p, p if p == OWNER else ROLE, identity(p).sign_pk) for p in names)
    return sign_roster(Roster(1, b"", parties, OWNER), {p: identity(p) for p in names})


@dataclass(frozen=True)
class Seen:
    """One Upload that the adversary holds, and what only the test knows of it: the integers and the Round behind."""

    party: str
    id: RoundId
    h: bytes
    y: Vector = field(repr=False)
    x: Vector = field(repr=False)
    round: Round = field(repr=False)
    seq: int = 0

    @property
    def sum(self) -> tuple[bytes, str, str, int]:
        return self.id.run_id, self.id.kind, self.id.scope, self.id.t


class Node:
    """One honest node: at most one session, a journal, and the integers that section 9.3 makes it keep."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.index = world, name, world.names.index(name)
        self.journal: list[dict[str, Any]] = []
        self.integers: dict[tuple[bytes, str, str, int], Vector] = {}
        self.snapshots: list[tuple[int, dict[Any, Vector]]] = [(0, {})]
        self.restores: list[int] = []
        self.refused: list[str] = []
        self.waiting: Round | None = None
        self.session = self._fresh()

    def _fresh(self) -> ClientSession:
        w = self.world
        arguments = identity(self.name), self.name, w.roster, w.policy, w.source(self.name), self.journal.append
        return ClientSession(*arguments, history=list(self.journal))

    def receive(self, message: bytes) -> bytes | None:
        """The answer, or None for a refusal or where there is none."""
        try:
            kind = message_type(message)
            if kind == "Round":
                return self._contribute(message)
            if kind == "SetupReq" and self._other_run(message):
                self.session = self._fresh()
            return self.session.handle(message)
        except ProtocolError as error:
            self.refused.append(error.code)
            return None

    def _other_run(self, message: bytes) -> bool:
        return bool(self.session.run_id) and SetupReq.decode(message, self.world.roster).run_id != self.session.run_id

    def _contribute(self, message: bytes) -> bytes | None:
        round = self.session.verify_round(message)
        if round.id.opener == self.name:
            self.waiting = round
            return None
        key = round.id.run_id, round.id.kind, round.id.scope, round.id.t
        x = self.integers.setdefault(key, self.world.one_hot(self.index))
        upload = self.session.contribute(round, Quantised({"x": x}))
        self.snapshots.append((len(self.journal), dict(self.integers)))
        self.world.collect(upload, x, round)
        return upload

    def open_sum(self, masked: bytes) -> Vector | None:
        """What the label owner gets to see, as integers of the ring."""
        if self.waiting is None:
            return None
        try:
            opened = self.session.open_sum(masked, self.waiting)
        except ProtocolError as error:
            self.refused.append(error.code)
            return None
        steps: Vector = np.rint(opened["x"] * 16).astype(np.int64).astype(np.uint16)
        return steps

    def restart(self, back: int | None = None) -> None:
        """A new process; with ``back`` on the home as it was that many uploads ago."""
        if back is not None:
            length, integers = self.snapshots[max(0, len(self.snapshots) - 1 - back)]
            del self.journal[length:]
            self.integers = dict(integers)
            self.restores.append(self.world.tick())
        self.session, self.waiting = self._fresh(), None


class World:
    """n nodes, and the adversary's memory: every message, every upload, all keys of the members on its side."""

    def __init__(self, n: int, colluders: int = 0, *, corrupt: bool = False) -> None:
        self.roster = make_roster(n)
        self.names = tuple(p.id for p in self.roster.parties)
        self.policy = Policy(colluders=colluders, clip=8.0, max_uploads=40, max_openings=4)
        self.corrupt = frozenset(self.names[: colluders + 1]) if corrupt else frozenset()
        self._seq = 0
        self.uploads: list[Seen] = []
        self.fresh: list[Seen] = []
        self.spied: dict[tuple[bytes, str], PairKeys] = {}
        self.nodes = {p: Node(self, p) for p in self.names}

    def tick(self) -> int:
        self._seq += 1
        return self._seq

    def source(self, name: str) -> Callable[[int], bytes]:
        """Fresh secrets for one process of a node: another process draws others, a restored home too."""
        state = hashlib.sha256(f"{name}/{self.tick()}".encode())

        def rand(n: int) -> bytes:
            state.update(b"+")
            return state.digest()[:n]

        return rand

    def one_hot(self, index: int) -> Vector:
        x = np.zeros(WIDTH, np.uint16)
        x[index], x[DRAW] = 1, self.tick() % 100 + 1
        return x

    def deliver(self, party: str, message: bytes) -> bytes | None:
        node = self.nodes[party]
        reply = node.receive(message)
        if party in self.corrupt and node.session.state is State.READY:
            at = (node.session._t0, party)
            if at not in self.spied and node.session._keys is not None:
                self.spied[at] = copy.deepcopy(node.session._keys)
        return reply

    def collect(self, upload: bytes, x: Vector, round: Round) -> None:
        message = Upload.decode(upload, self.roster)
        y: Vector = np.frombuffer(message.y, "<u2").astype(np.uint16)
        seen = Seen(message.party, message.id, message.h, self._strip(message, y, round), x, round, self.tick())
        again = [s for s in self.uploads if (s.party, s.h) == (seen.party, seen.h)]
        demand(not again, f"{seen.party} gave two uploads under one pad")
        self.uploads.append(seen)
        if seen.party not in self.corrupt:
            self.fresh.append(seen)

    def _strip(self, upload: Upload, y: Vector, round: Round) -> Vector:
        """y without the pads that corrupt members of its cohort can compute; they keep every key of a set-up."""
        for (t0, spy), keys in self.spied.items():
            if spy == upload.party or spy not in round.cohort or round.bind(t0) != upload.h or keys.t > upload.id.t:
                continue
            ahead = copy.deepcopy(keys)
            ahead.advance(upload.id.t)
            peers = [p for p in round.cohort if p != spy]
            key, sign = dict(zip(peers, ahead.pads(upload.h, round.cohort), strict=True))[upload.party]
            add_masks({16: y}, [(key, sign)])
        return y


def looks_open(total: Vector) -> bool:
    """No pad is left: small counts where one-hot entries add up, zeros behind the draw. By chance below 2^-140."""
    return bool((total[:NODES] <= 64).all() and not total[DRAW + 1 :].any())


def openings(world: World) -> Iterable[tuple[Sequence[Seen], Vector]]:
    """Every sum without pads that the newest uploads make possible, by plain addition.

    Tried are all subsets of the uploads under one H, all subsets of the latest RECENT uploads of any H, and
    for each new upload the difference to every other of the same node (two uploads under one pad).
    """
    honest = [s for s in world.uploads if s.party not in world.corrupt]
    pools = {s.h: [o for o in honest if o.h == s.h] for s in world.fresh}
    for pool in [*pools.values(), honest[-RECENT:]]:
        bits = BITS[len(pool)][1:]
        totals = bits @ np.stack([s.y for s in pool]) if pool else np.zeros((0, WIDTH), np.uint16)
        small = (totals[:, :NODES] <= 64).all(1) & ~totals[:, DRAW + 1 :].any(1)
        for i in np.flatnonzero(small):
            yield [s for s, b in zip(pool, bits[i], strict=True) if b], totals[i]
    for new in world.fresh:
        for old in honest:
            if old is not new and old.party == new.party:
                difference = (new.y - old.y)[:NODES]
                demand(bool(difference.any()), f"{new.party} used one pad twice")
