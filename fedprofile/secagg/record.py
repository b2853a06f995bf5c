"""What a node remembers of its own past: counters, caps and the retry rule, rebuilt from its journal (9.3 to 9.5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedprofile.errors import ProtocolError
from fedprofile.secagg.codes import refusal, remote
from fedprofile.secagg.round_messages import Round
from fedprofile.secagg.transitions import AT_NODE, Sum, Table
from fedprofile.types import Policy, RoundId

MAX_SETUPS = 10
DAY_SECONDS = 24 * 3600
LATEST = 1 << 62

Entry = dict[str, Any]
Slot = tuple[str, str, str]
Fault = Callable[[str, str], ProtocolError]


# what an event in the journal makes of a sum
STATES = {"upload": Sum.SENT, "open": Sum.OPENED, "agree": Sum.AGREED, "reveal": Sum.REVEALED}


@dataclass(frozen=True)
class Last:
    """The latest round of one (run, kind, scope); ``mac`` is that of the integers sent, "" before the upload.

    In the resilient profile ``h`` is the round's H and ``agreed`` the set that this node signed, () before.
    """

    t: int
    attempt: int
    basis: str
    mac: str = ""
    state: Sum = Sum.ASKED
    h: bytes = b""
    contributors: tuple[str, ...] = ()
    agreed: tuple[str, ...] = ()


def setup_entry(run_id: bytes, setup: int, now: float) -> Entry:
    return {"event": "setup", "at": int(now), "run": run_id.hex(), "setup": setup}


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


def survivors_entry(event: str, id: RoundId, survivors: tuple[str, ...], now: float) -> Entry:
    """A journal line about the set that this node agreed to, or opened its shares for."""
    return {
        "event": event,
        "at": int(now),
        "run": id.run_id.hex(),
        "kind": id.kind,
        "scope": id.scope,
        "t": id.t,
        "attempt": id.attempt,
        "members": list(survivors),
    }


def slot(id: RoundId) -> Slot:
    return id.run_id.hex(), id.kind, id.scope


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
        self._setups: dict[str, dict[int, int]] = {}
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
            # entries of older journals have no time: they count on every day
            self._setups.setdefault(run, {})[entry["setup"]] = entry.get("at", LATEST) // DAY_SECONDS
        if event not in STATES:
            return
        key, members = (run, entry["kind"], entry["scope"]), tuple(entry["members"])
        self._members.setdefault(key[1:], set()).add(frozenset(members))
        if event in ("agree", "reveal"):
            self._last[key] = replace(self._last[key], state=STATES[event], agreed=members)
            return
        h = bytes.fromhex(entry.get("h", ""))
        mac, state = entry.get("mac", ""), STATES[event]
        self._last[key] = Last(entry["t"], entry["attempt"], entry["basis"], mac, state, h, members)
        if event == "upload":
            self._uploads[run] += 1
            self._days[entry["at"] // DAY_SECONDS] += 1
        else:
            self._opened.add((key, entry["t"]))
        if entry["score"]:
            self._scores[entry["score"]] = (run, entry["t"])
            customers, _, epoch = entry["score"].rpartition("/")
            epochs = self._epochs.setdefault(customers, {})
            epochs[epoch] = max(entry["at"], epochs.get(epoch, 0))

    def see(self, round: Round) -> None:
        """Marks a verified round, so that nothing at or before its (t, attempt) verifies again."""
        last = self._last.get(slot(round.id))
        mac = last.mac if last and last.t == round.id.t else ""  # of an earlier attempt: the same integers
        self._last[slot(round.id)] = Last(round.id.t, round.id.attempt, round.basis.hex(), mac)

    def last(self, id: RoundId) -> Last:
        """The latest round of this run, kind and scope; ``Sum.NONE`` before the first."""
        return self._last.get(slot(id), Last(-1, -1, "", state=Sum.NONE))

    def check_event(self, table: Table[Sum], id: RoundId, event: str, error: Fault) -> None:
        """Raises ``error`` with the code of ``transitions.AT_NODE`` where the sum's table does not hold the event."""
        state = self.last(id).state
        if (state, event) not in table:
            raise error(AT_NODE[state], event)

    def latest_t(self, run_id: bytes) -> int:
        """The greatest t of any sum of the run, -1 before the first."""
        return max((last.t for (run, _, _), last in self._last.items() if run == run_id.hex()), default=-1)

    def latest_setup(self, run_id: bytes) -> int:
        return max(self._setups.get(run_id.hex(), ()), default=-1)

    def mac_of_retry(self, round: Round) -> str:
        """The MAC of the integers already sent for this t, "" for a first upload."""
        return self._last[slot(round.id)].mac

    def check_setup(self, run_id: bytes, setup: int, base_t: int, now: float) -> None:
        """Raises RemoteProtocolError (setup_reused, stale_round) or PolicyRefusal("too_many_setups").

        The cap is one of the run and UTC day; where a clock was set back, set-ups of later days count too.
        """
        if setup <= self.latest_setup(run_id):
            raise remote("setup_reused")
        if base_t < self.latest_t(run_id):
            raise remote("stale_round", "the set-up begins before this node's last round")
        days = self._setups.get(run_id.hex(), {}).values()
        if sum(day >= int(now) // DAY_SECONDS for day in days) >= MAX_SETUPS:
            raise refusal("too_many_setups")

    def check_round(self, round: Round, policy: Policy, table: Table[Sum], now: float) -> None:
        """Order and retry (9.3), caps of the run and of the day, one opening of a score in an epoch of a day (9.7),
        differencing (9.5).

        now: seconds since 1970. Raises RemoteProtocolError("stale_round") or PolicyRefusal: retry_differs,
        agreed_before, revealed_before, too_many_uploads, opened_before, epoch_too_soon, too_many_openings,
        differencing.
        """
        last, place = self._last.get(slot(round.id)), (round.id.t, round.id.attempt)
        if last and place <= (last.t, last.attempt):
            raise remote("stale_round")
        if last and round.id.t == last.t and round.basis.hex() != last.basis:
            raise refusal("retry_differs")
        self.check_event(table, round.id, "Retry" if last and round.id.t == last.t else "Round", refusal)
        run, today = self._uploads[round.id.run_id.hex()], self._days[int(now) // DAY_SECONDS]
        if run >= policy.max_uploads or today >= policy.max_uploads_day:
            raise refusal("too_many_uploads")
        if round.id.kind == "score":
            self._check_score(round, policy, now)
        if round.id.kind == "score" or not policy.accept_differencing:
            self._check_differencing(round, policy)

    def _check_differencing(self, round: Round, policy: Policy) -> None:
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
        if (slot(round.id), round.id.t) in self._opened:
            raise refusal("opened_before")
