"""One exchange between coordinator and nodes over Flower's grid: push to all, pull until all have answered.

Flower's own ``send_and_receive`` sleeps 3 s between looks. Where ``away_s`` is set, as in a deployment, a node or
SuperLink that goes away makes the exchange wait and ask again: what a node does with a request that it has answered
before is the protocol's question (secure-sum 9.3), not the transport's.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from fedprofile.crash import crash_at
from fedprofile.errors import NodeFailed
from fedprofile.flower.records import MESSAGE_TYPE, OTHER_RELEASE, REFUSED, pack, unpack
from fedprofile.messages import Envelope

log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_S = 0.25
_FIRST_POLL_S, _POLL_SHARE = 0.1, 0.1
ANSWER_WITHIN_S = 600.0
_LOST = frozenset({3, 4, 5, 8})
"""Flower's codes for a message or reply that is gone, a node that is away, a ClientApp process that died."""
_REASONS = (OTHER_RELEASE, "config_not_allowed")
"""Why a node of ours refuses; any other text is whatever its sender wrote."""
_NEVER_ARRIVED = (3, "")
_MENDS = {OTHER_RELEASE: "It runs another release of fedprofile: install the same on all sides, then resume."}
_abandoned: set[Path] = set()


def abandon(folder: Path) -> None:
    """Make a ServerApp that still waits for this job's nodes give up."""
    _abandoned.add(folder)


def take_up(folder: Path) -> None:
    """Undo ``abandon``: a new ServerApp begins."""
    _abandoned.discard(folder)


@dataclass
class Exchange:
    """Carries requests of one job. ``nodes`` is party -> Flower node id.

    ``answer_s``: seconds that a node may take; ``away_s``: how long it, or SuperLink, may be away in all (0: not at
    all, as where nodes are threads of this process). SuperLink hands a message out once, also where the line breaks
    just then: after each ``probe_s`` a silent node is asked who it is, and when it answers that, having one message in
    work at a time, the request before it never arrived.
    """

    grid: Grid
    folder: Path
    nodes: Mapping[str, int]
    answer_s: float = ANSWER_WITHIN_S
    away_s: float = 0.0
    probe_s: float = float("inf")
    _pending: dict[str, str] = field(default_factory=dict)
    _again: dict[str, float] = field(default_factory=dict)
    _probes: dict[str, str] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)

    @property
    def abandoned(self) -> bool:
        return self.folder in _abandoned

    def talk(self, requests: Mapping[str, bytes], absent: bool = False) -> dict[str, bytes]:
        """Send each party its request and wait for all answers; raises NodeFailed for the first that has none.

        ``absent``: parties without an answer are left out instead; whether the run can do without is fps1's question.
        """
        answers: dict[str, bytes] = {}
        lost: set[str] = set()
        self._pending, self._again, self._probes = {}, {}, {}
        self._push(requests)
        crash_at("asked")
        asked = time.monotonic()
        while True:
            self._pause(asked)  # first, as nobody answers before it has asked for work
            for party, reply in self._pull():
                if not reply.has_error():
                    answers[party] = unpack(reply)
                elif absent:
                    lost.add(party)
                else:
                    self._excuse(party, reply.error.code, reply.error.reason)
            if len(answers) + len(lost) == len(requests):
                break
            if self.abandoned or time.monotonic() > asked + self.answer_s:
                if self.abandoned or not absent:
                    raise NodeFailed(next(p for p in requests if p not in answers), "no_answer")
                break
            self._probe()
            self._ask_again(requests)
        return {party: answers[party] for party in requests if party in answers}

    def _pause(self, asked: float) -> None:
        """Between looks: a tenth of the time that has passed, so that neither short rounds wait nor long ones ask."""
        share = _POLL_SHARE * (time.monotonic() - asked)
        time.sleep(getattr(self.grid, "poll", min(max(_FIRST_POLL_S, share), POLL_S)))

    def _push(self, requests: Mapping[str, bytes]) -> None:
        messages = [
            Message(pack(data), self.nodes[party], MESSAGE_TYPE, ttl=self.answer_s + self.away_s)
            for party, data in requests.items()
        ]
        # the same messages have the same ids: pushing them again after a restart of SuperLink is harmless
        ids: Sequence[str] = self._patiently(lambda: list(self.grid.push_messages(messages)))
        for id, party in zip(ids, requests, strict=True):
            self._asked[party] = time.monotonic()
            if id:
                self._pending[id] = party
            else:
                self._excuse(party, 5, "")

    def _pull(self) -> list[tuple[str, Message]]:
        """What came, by party; a request that its party must have missed is noted to be sent again."""
        ids = [*self._pending, *self._probes]
        replies = self._patiently(lambda: list(self.grid.pull_messages(ids))) if ids else []
        found, heard = [], []
        for reply in replies:
            id = reply.metadata.reply_to_message_id
            if id in self._pending:
                found.append((self._pending.pop(id), reply))
            elif (party := self._probes.pop(id)) and not reply.has_error():
                heard.append(party)
        for id in [id for id, party in self._pending.items() if party in heard]:
            self._excuse(self._pending.pop(id), *_NEVER_ARRIVED)
        return found

    def _probe(self) -> None:
        now = time.monotonic()
        silent = [p for p in self._pending.values() if now - self._asked[p] > self.probe_s]
        for party in silent:
            question = Message(pack(Envelope("identify").encode()), self.nodes[party], MESSAGE_TYPE, ttl=self.answer_s)
            (id,) = self._patiently(functools.partial(self.grid.push_messages, [question]))
            if id:
                self._probes[id] = party
            self._asked[party] = now

    def _patiently(self, call: Callable[[], T]) -> T:
        """Where SuperLink may be away: until it is back, or has been away for ``away_s``."""
        give_up = time.monotonic() + self.away_s
        delay = 0.5
        while True:
            try:
                return call()
            except Exception as error:  # whatever Flower's client raises while its SuperLink restarts
                if time.monotonic() + delay > give_up:
                    raise
                log.warning("SuperLink does not answer (%s); again in %.1f s", type(error).__name__, delay)
                time.sleep(delay)
                delay = min(2 * delay, 4.0)

    def _excuse(self, party: str, code: int, reason: str | None) -> None:
        """Note that a party has to be asked again. Raises NodeFailed where it refuses, or no waiting is due."""
        if code not in _LOST or not self.away_s:
            why = reason if code == REFUSED and reason in _REASONS else ""
            raise NodeFailed(party, f"flower_error_{code}", why, _MENDS.get(why, ""))
        log.warning("the answer of %s is lost (Flower's code %d); waiting for it to come back", party, code)
        self._again.setdefault(party, time.monotonic() + self.away_s)

    def _ask_again(self, requests: Mapping[str, bytes]) -> None:
        """Whoever was lost and is online. Raises NodeFailed for who has been away for too long."""
        if not self._again:
            return
        online = set(self._patiently(lambda: list(self.grid.get_node_ids())))
        back = [p for p in self._again if self.nodes[p] in online]
        for party, until in self._again.items():
            if party not in back and time.monotonic() > until:
                raise NodeFailed(party, "no_answer", f"away for more than {self.away_s:.0f} s")
        for party in back:
            del self._again[party]
        self._push({p: requests[p] for p in back})
