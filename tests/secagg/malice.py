"""The moves of a malicious coordinator: it keeps to the encoding and to nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from adversary import LAYOUT, OWNER, ROLE, World, identity, make_roster
from verdict import Verdict

from fedprofile.secagg.client import State
from fedprofile.secagg.messages import KeyAd, KeyBundle, KeyOpen, MaskedSum, OpenBundle, Round, SetupReq
from fedprofile.secagg.wire import ZERO_HASH, party_wire_id, wire_order
from fedprofile.types import Layout, RoundId

SETUP_TRICKS = (
    "plain", "part", "split", "alone", "number", "old number", "sybil", "roster", "stale ad", "late", "two ads", "silent",
)  # fmt: skip
ROUND_TRICKS = (
    "plain", "plain", "two models", "other model", "part", "split", "alone", "two layouts", "two epochs", "dropped",
    "opener", "two attempts",
)  # fmt: skip
SUMS = (("update", ""), ("role", ROLE), ("stats", ""), ("stats", ROLE), ("score", ""))
RUNS = tuple(hashlib.sha256(bytes([i])).digest() for i in range(2))


class Malice:
    """A coordinator with a memory: numbers of set-ups, the latest t, all that it ever sent or got."""

    def __init__(self, world: World) -> None:
        self.world, self.everyone = world, wire_order(world.names)
        self.numbers, self.t = [0, 0], 0
        self.sent: list[bytes] = []
        self.ads: list[bytes] = []
        self.last: Round | None = None

    def mend(self) -> None:
        """A plain set-up, if some node has no keys for run 0: what an honest coordinator would do."""
        sessions = [node.session for node in self.world.nodes.values()]
        t0 = {s._t0 if s.state is State.READY and s.run_id == RUNS[0] else b"" for s in sessions}
        if len(t0) > 1 or b"" in t0:
            self.set_up(0, 0, "plain", 0)

    def retry(self) -> None:
        """The latest round once more, as an honest coordinator retries it."""
        if self.last is not None:
            self.mend()
            self.last = replace(self.last, id=replace(self.last.id, attempt=self.last.id.attempt + 1))
            for party in self.last.cohort:
                self._send(party, self.last.encode())

    def _send(self, party: str, message: bytes) -> bytes | None:
        if message not in self.sent:
            self.sent.append(message)
        return self.world.deliver(party, message)

    def set_up(self, run: int, ahead: int, trick: str, who: int) -> None:
        """A whole set-up with every group of nodes that was told the same."""
        self.numbers[run] += trick != "old number"
        requests = self._requests(run, max(0, self.t + ahead), trick, who)
        ads = {p: ad for p, r in requests.items() if (ad := self._send(p, r)) is not None}
        for request in set(requests.values()):
            group = [p for p in self.everyone if requests.get(p) == request and p in ads]
            if group:
                self._agree(group, {p: ads[p] for p in group}, trick, who)
        self.ads += ads.values()

    def _requests(self, run: int, base_t: int, trick: str, who: int) -> dict[str, bytes]:
        world, number = self.world, self.numbers[run]
        hashes = (world.roster.hash, world.policy.hash, ZERO_HASH)
        plain = SetupReq(RUNS[run], number, base_t, "strict", *hashes, self.everyone)
        victim, half = self.everyone[who % len(self.everyone)], len(self.everyone) // 2
        parts = {"part": [tuple(p for p in self.everyone if p != victim)], "alone": [(victim,)]}
        parts["split"] = [self.everyone[:half], self.everyone[half:]]
        if trick in parts:
            return {p: replace(plain, cohort=part).encode() for part in parts[trick] for p in part}
        requests = {p: plain.encode() for p in self.everyone}
        if trick == "number":
            requests[victim] = replace(plain, setup=number + 1).encode()
        if trick in ("sybil", "roster"):
            other = make_roster(len(self.everyone), sybil=True)
            cohort = wire_order((*self.everyone, "sybil")) if trick == "sybil" else self.everyone
            requests = {p: replace(plain, roster_hash=other.hash, cohort=cohort).encode() for p in self.everyone}
        return requests

    def _agree(self, group: Sequence[str], ads: dict[str, bytes], trick: str, who: int) -> None:
        roster, victim = self.world.roster, group[who % len(group)]
        if trick == "stale ad" and self.ads:
            old = self.ads[who % len(self.ads)]
            ads[KeyAd.decode(old, roster).party] = old
        ordered = sorted((KeyAd.decode(ad, roster) for ad in ads.values()), key=lambda ad: party_wire_id(ad.party))
        bundles = dict.fromkeys(group, KeyBundle(tuple(ordered)))
        if trick == "two ads" and self.world.corrupt:
            bundles |= dict.fromkeys(group[::2], self._another_bundle(ordered))
        replies = [self._send(p, bundles[p].encode()) for p in group]
        opens = sorted((KeyOpen.decode(o, roster) for o in replies if o), key=lambda o: party_wire_id(o.party))
        data = OpenBundle(tuple(opens)).encode()
        for p in group:
            if trick != "silent" and not (trick == "late" and p == victim):
                self._send(p, data)

    def _another_bundle(self, ads: list[KeyAd]) -> KeyBundle:
        """A corrupt member signs other keys for some of the nodes."""
        spy = next(iter(sorted(self.world.corrupt)))
        changed = [
            replace(ad, pk_mask=identity("spare").sign_pk).signed(identity(spy)) if ad.party == spy else ad
            for ad in ads
        ]
        return KeyBundle(tuple(changed))

    def round(self, run: int, what: int, ahead: int, attempt: int, trick: str, who: int) -> None:
        """One round of some kind, as ``trick`` has it, to each member of its cohort."""
        kind, scope = SUMS[what % len(SUMS)]
        t = max(0, self.t + ahead)
        self.t = max(self.t, t)
        cohort = tuple(p for p in self.everyone if not scope or p != OWNER)
        id = RoundId(RUNS[run], kind, scope, t, attempt, OWNER if kind == "score" else "")  # type: ignore[arg-type]
        policy = self.world.policy.hash
        plain = Round(id, cohort, LAYOUT, f"{kind}{scope}{t}".encode(), policy, epoch=t // 2 if kind == "score" else 0)
        self.last = plain
        for party, round in self._told(plain, trick, who):
            self._send(party, round.encode())

    def _told(self, plain: Round, trick: str, who: int) -> list[tuple[str, Round]]:
        cohort, half = plain.cohort, len(plain.cohort) // 2
        victim, told = cohort[who % len(cohort)], dict.fromkeys(cohort, plain)
        finer = Layout((replace(LAYOUT.segments[0], clip=4.0),))
        changed = {
            "two models": replace(plain, model=b"crafted"),
            "two layouts": replace(plain, layout=finer),
            "two epochs": replace(plain, epoch=plain.epoch + 1),
            "two attempts": replace(plain, id=replace(plain.id, attempt=plain.id.attempt + 1)),
        }
        if trick in changed:
            told |= dict.fromkeys(cohort[who % 2 :: 2], changed[trick])
        elif trick == "other model":
            told = dict.fromkeys(cohort, replace(plain, model=b"crafted"))
        elif trick == "opener":
            told = dict.fromkeys(cohort, replace(plain, id=replace(plain.id, opener=victim)))
        elif trick in ("part", "alone", "split"):
            rest = tuple(p for p in cohort if p != victim)
            parts = {"part": [rest], "alone": [(victim,)], "split": [cohort[:half], cohort[half:]]}[trick]
            told = {p: replace(plain, cohort=part) for part in parts for p in part}
        return [(p, r) for p, r in told.items() if not (trick == "dropped" and p == victim)][:: 1 if who % 2 else -1]

    def replay(self, which: int, who: int) -> None:
        """Any message of the past to any node."""
        if self.sent:
            self._send(self.everyone[who % len(self.everyone)], self.sent[-1 - which % len(self.sent)])

    def score_sum(self, which: int, bits: int, verdict: Verdict) -> None:
        """The sum of some of the uploads of one score round, all of them where ``bits`` is 0, to the label owner."""
        scores = [s for s in self.world.uploads if s.id.kind == "score"]
        if not scores or OWNER in self.world.corrupt:
            return
        h = scores[-1 - which % len(scores)].h
        part = [s for i, s in enumerate(o for o in scores if o.h == h) if not bits or bits >> i & 1]
        if not part:
            return
        y = np.sum([s.y for s in part], axis=0, dtype=np.uint16).astype("<u2").tobytes()
        opened = self.world.nodes[OWNER].open_sum(MaskedSum(part[0].id, h, y).encode())
        if opened is not None:
            verdict.label_owner_saw(opened, part)
