"""What a node remembers of its own past: counters, caps and the retry rule, rebuilt from its journal (9.3 to 9.5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedprofile.secagg.codes import refusal, remote
from fedprofile.secagg.round_messages import Round
from fedprofile.types import Policy

MAX_SETUPS = 10
DAY_SECONDS = 24 * 3600

Entry = dict[str, Any]
Slot = tuple[str, str, str]


@dataclass(frozen=True)
class Last:
    """The latest round of one (run, kind, scope); ``mac`` is that of the integers sent, "" before the upload."""

    t: int
    attempt: int
    basis: str
    mac: str = ""


def setup_entry(run_id: bytes, setup: int) -> Entry:
    return {"event": "setup", "run": run_id.hex(), "setup": setup}


def round_entry(event: str, round: Round, now: float, **more: str) -> Entry:
    """A journal line about a round: public facts, hashes and MACs; never an integer of the vector."""
    return {
        "event": event,
        "at": int(now),
        "run": round.id.run_id.hex(),
        "kind": round.id.kind,
        "scope": round.id.scope,
        "t": round.id.t,
        "attempt": round.id.attempt,
        "members": list(round.contributors),
        "basis": round.basis.hex(),
        "score": score_key(round),
        **more,
    }


def slot(round: Round) -> Slot:
    return round.id.run_id.hex(), round.id.kind, round.id.scope


def score_key(round: Round) -> str:
    """What may be opened once (9.7): customers by their spine, bundle and epoch; "" for other kinds."""
    if round.id.kind != "score":
        return ""
    return f"{_customers(round)}/{round.epoch}"


def _customers(round: Round) -> str:
    return f"{round.spine_hash.hex()}/{round.bundle_hash.hex()}"


class Record:
    """Replays journal entries and answers whether one more is allowed."""

    def __init__(self, history: Iterable[Mapping[str, Any]] = ()) -> None:
        self._setups: dict[str, set[int]] = {}
        self._last: dict[Slot, Last] = {}
        self._uploads: Counter[str] = Counter()
        self._days: Counter[int] = Counter()
        self._members: dict[tuple[str, str], set[frozenset[str]]] = {}
        self._scores: dict[str, tuple[str, int]] = {}
        self._epochs: dict[str, dict[str, int]] = {}
        self._opened: set[tuple[Slot, int]] = set()
        for entry in history:
            self.apply(entry)

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Takes in one journal entry; unknown events belong to other rooms and are passed over."""
        event, run = entry.get("event"), entry.get("run", "")
        if event == "setup":
            self._setups.setdefault(run, set()).add(entry["setup"])
        if event not in ("upload", "open"):
            return
        key = (run, entry["kind"], entry["scope"])
        self._last[key] = Last(entry["t"], entry["attempt"], entry["basis"], entry.get("mac", ""))
        if event == "upload":
            self._uploads[run] += 1
            self._days[entry["at"] // DAY_SECONDS] += 1
        else:
            self._opened.add((key, entry["t"]))
        self._members.setdefault(key[1:], set()).add(frozenset(entry["members"]))
        if entry["score"]:
            self._scores[entry["score"]] = (run, entry["t"])
            customers, _, epoch = entry["score"].rpartition("/")
            epochs = self._epochs.setdefault(customers, {})
            epochs[epoch] = max(entry["at"], epochs.get(epoch, 0))

    def see(self, round: Round) -> None:
        """Marks a verified round, so that nothing at or before its (t, attempt) verifies again."""
        last = self._last.get(slot(round))
        mac = last.mac if last and last.t == round.id.t else ""
        self._last[slot(round)] = Last(round.id.t, round.id.attempt, round.basis.hex(), mac)

    def latest_t(self, run_id: bytes) -> int:
        """The greatest t of any sum of the run, -1 before the first."""
        return max((last.t for (run, _, _), last in self._last.items() if run == run_id.hex()), default=-1)

    def latest_setup(self, run_id: bytes) -> int:
        return max(self._setups.get(run_id.hex(), ()), default=-1)

    def mac_of_retry(self, round: Round) -> str:
        """The MAC of the integers already sent for this t, "" for a first upload."""
        return self._last[slot(round)].mac

    def check_setup(self, run_id: bytes, setup: int, base_t: int) -> None:
        """Raises RemoteProtocolError (setup_reused, stale_round) or PolicyRefusal (too_many_setups)."""
        if setup <= self.latest_setup(run_id):
            raise remote("setup_reused")
        if base_t < self.latest_t(run_id):
            raise remote("stale_round", "the set-up begins before this node's last round")
        if len(self._setups.get(run_id.hex(), ())) >= MAX_SETUPS:
            raise refusal("too_many_setups")

    def check_round(self, round: Round, policy: Policy, now: float) -> None:
        """Order and retry (9.3), caps of the run and of the day, one opening of a score in an epoch of a day (9.7),
        differencing (9.5).

        now: seconds since 1970. Raises RemoteProtocolError("stale_round") or PolicyRefusal: retry_differs,
        too_many_uploads, opened_before, epoch_too_soon, too_many_openings, differencing.
        """
        last, place = self._last.get(slot(round)), (round.id.t, round.id.attempt)
        if last and place <= (last.t, last.attempt):
            raise remote("stale_round")
        if last and round.id.t == last.t and round.basis.hex() != last.basis:
            raise refusal("retry_differs")
        run, today = self._uploads[round.id.run_id.hex()], self._days[int(now) // DAY_SECONDS]
        if run >= policy.max_uploads or today >= policy.max_uploads_day:
            raise refusal("too_many_uploads")
        if round.id.kind == "score":
            self._check_score(round, policy, now)
        members = frozenset(round.contributors)
        for earlier in self._members.get((round.id.kind, round.id.scope), ()):
            if 0 < len(members ^ earlier) < policy.colluders + 2:
                raise refusal("differencing")

    def _check_score(self, round: Round, policy: Policy, now: float) -> None:
        here, before = (round.id.run_id.hex(), round.id.t), self._scores.get(score_key(round))
        if before not in (None, here):
            raise refusal("opened_before")
        others = (at for epoch, at in self._epochs.get(_customers(round), {}).items() if epoch != str(round.epoch))
        # a clock that was set back counts as no time passed
        if any(now - at < DAY_SECONDS for at in others):
            raise refusal("epoch_too_soon")
        if here not in self._scores.values() and len(set(self._scores.values())) >= policy.max_openings:
            raise refusal("too_many_openings")

    def check_open(self, round: Round) -> None:
        """Raises PolicyRefusal("opened_before") for a second opening of one (t, kind, scope)."""
        if (slot(round), round.id.t) in self._opened:
            raise refusal("opened_before")
