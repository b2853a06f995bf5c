"""A malicious coordinator against honest nodes, as a state machine; and proof that it finds what is broken.

FEDPROFILE_SCHEDULES=nightly runs 10,000 schedules in place of 160: ``make nightly``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

import pytest
from adversary import Violation, World
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from malice import ROUND_TRICKS, SETUP_TRICKS, SUMS, Malice
from verdict import Verdict

from fedprofile.secagg import client, policy, round_messages, setup_messages, setup_session
from fedprofile.secagg.record import Record
from fedprofile.secagg.round_messages import Round
from fedprofile.types import digest

settings.register_profile(
    "schedules", max_examples=40, stateful_step_count=12, deadline=None, derandomize=True, database=None
)
settings.register_profile(
    "schedules-nightly", settings.get_profile("schedules"), max_examples=2500, derandomize=False, print_blob=True
)
PROFILE = "-".join(filter(None, ("schedules", os.environ.get("FEDPROFILE_SCHEDULES"))))
MEMBERS = ((3, 4), (4, 5), (5, 6), (6, 8))
small, any_node = st.integers(0, 2), st.integers(0, 7)


class Attack(RuleBasedStateMachine):
    """Each rule is a move of the coordinator; the verdict is passed after each."""

    members = (3, 8)
    tally: ClassVar[Counter[str]] = Counter()

    @initialize(data=st.data(), corrupt=st.booleans())
    def begin(self, data: st.DataObject, corrupt: bool) -> None:
        n = data.draw(st.integers(*self.members))
        self.world = World(n, data.draw(st.integers(0, min(2, n - 3))), corrupt=corrupt)
        self.malice, self.verdict = Malice(self.world), Verdict(self.world)
        self.malice.set_up(0, 0, "plain", 0)

    @rule(
        run=st.sampled_from((0, 0, 0, 1)), ahead=st.integers(-1, 1), trick=st.sampled_from(SETUP_TRICKS), who=any_node
    )
    def set_up(self, run: int, ahead: int, trick: str, who: int) -> None:
        self.malice.set_up(run, ahead, trick, who)

    @rule(
        run=st.sampled_from((0, 0, 0, 1)),
        what=st.integers(0, len(SUMS) - 1),
        ahead=st.integers(-1, 1),
        attempt=small,
        trick=st.sampled_from(ROUND_TRICKS),
        who=any_node,
    )
    def round(self, run: int, what: int, ahead: int, attempt: int, trick: str, who: int) -> None:
        self.malice.round(run, what, ahead, attempt, trick, who)

    @rule(what=st.integers(0, len(SUMS) - 1))
    def next_round(self, what: int) -> None:
        self.malice.mend()
        self.malice.round(0, what, 1, 0, "plain", 0)

    @rule(who=any_node, restart=st.booleans(), lose=st.booleans())
    def retry(self, who: int, restart: bool, lose: bool) -> None:
        self.disturb(who, restart, None, lose)
        self.malice.retry()

    @rule(bits=st.sampled_from((0, 0, 3)))
    def score(self, bits: int) -> None:
        self.malice.mend()
        self.malice.round(0, SUMS.index(("score", "")), 1, 0, "plain", 0)
        self.malice.score_sum(0, bits, self.verdict)

    @rule(which=st.integers(0, 15), who=any_node)
    def replay(self, which: int, who: int) -> None:
        self.malice.replay(which, who)

    @rule(which=small, bits=st.sampled_from((0, 0, 1, 3, 6, 127)))
    def score_sum(self, which: int, bits: int) -> None:
        self.malice.score_sum(which, bits, self.verdict)

    @rule(who=any_node, back=st.none() | small)
    def restart(self, who: int, back: int | None) -> None:
        self.disturb(who, True, back, False)

    def disturb(self, who: int, restart: bool, back: int | None, lose: bool) -> None:
        node = self.world.nodes[self.world.names[who % len(self.world.names)]]
        if lose:
            node.integers.clear()
        if restart:
            node.restart(back)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "verdict"):
            self.verdict.check()

    def teardown(self) -> None:
        if hasattr(self, "verdict"):
            self.tally["schedules"] += 1
            self.tally["uploads"] += len(self.world.uploads)
            self.tally["opened"] += len(self.verdict.opened)
            self.tally["opened by the label owner"] += len(self.verdict.label_owner)
            self.tally["refused"] += sum(len(n.refused) for n in self.world.nodes.values())


def attack(members: tuple[int, int], chosen: settings) -> Counter[str]:
    """Runs the machine; raises Violation with the schedule that broke an invariant."""
    machine = type("Attack", (Attack,), {"members": members, "tally": Counter()})
    run_state_machine_as_test(machine, settings=chosen)
    tally: Counter[str] = machine.tally  # type: ignore[attr-defined]
    return tally


@pytest.fixture(autouse=True)
def _verified_once(monkeypatch):
    """All nodes check the same signatures, which is the greater part of a schedule's time: check each once."""
    for module in (setup_messages, round_messages):
        monkeypatch.setattr(module, "verify", lru_cache(maxsize=1 << 14)(module.verify))


@pytest.mark.parametrize("members", MEMBERS)
def test_no_schedule_breaks_an_invariant(members):
    chosen = settings.get_profile(PROFILE)
    tally = attack(members, chosen)
    # the schedules have to reach what they are about
    assert tally["schedules"] >= chosen.max_examples
    assert tally["opened"] > tally["schedules"] / 4
    assert tally["refused"] > tally["schedules"]
    assert tally["opened by the label owner"] > 0
    print(members, dict(tally))


def _forgetful(session, entry):
    session._record.apply(entry)


def _unread_model(round, t0):
    return digest("fps1/round", t0, replace(round, model=b"").header)


def _never_stale(record, round, policy, table, now, original=Record.check_round):
    record._last.pop((round.id.run_id.hex(), round.id.kind, round.id.scope), None)
    original(record, round, policy, table, now)


def _any_basis(record, round, policy, table, now, original=Record.check_round):
    key = (round.id.run_id.hex(), round.id.kind, round.id.scope)
    if last := record._last.get(key):
        record._last[key] = replace(last, basis=round.basis.hex())
    original(record, round, policy, table, now)


def _nothing(*_arguments):
    return None


class Directed:
    """The moves of ``Attack`` by hand, for mutants that a random schedule meets too seldom."""

    def __init__(self, n: int = 8) -> None:
        self.world = World(n)
        self.malice, self.verdict = Malice(self.world), Verdict(self.world)
        self.malice.set_up(0, 0, "plain", 0)

    def play(self, *moves: Callable[[Directed], object]) -> None:
        for move in moves:
            move(self)
            self.verdict.check()


def _update(d: Directed, trick: str = "plain", ahead: int = 1, attempt: int = 0) -> None:
    d.malice.round(0, 0, ahead, attempt, trick, 0)


def _score(d: Directed) -> None:
    d.malice.round(0, SUMS.index(("score", "")), 1, 0, "plain", 0)
    d.malice.score_sum(0, 0, d.verdict)


def _retry(d: Directed) -> None:
    d.malice.retry()
    d.malice.score_sum(0, 0, d.verdict)


def _lose(d: Directed) -> None:
    d.world.nodes["tax2"].integers.clear()


def _crash(d: Directed) -> None:
    d.world.nodes["tax2"].restart()


# mutant -> what it replaces, and the moves under which it shows
MUTANTS = {
    "no MAC of the integers": ([(Record, "mac_of_retry", lambda *_: "")], (_update, _lose, _retry)),
    "no journal": ([(setup_session.SetupSession, "_commit", _forgetful)], (_update, _lose, _crash, _retry)),
    "no order of rounds": ([(Record, "check_round", _never_stale)], (_update, lambda d: _update(d, ahead=0))),
    "no whole cohort": (
        [(policy, "check_whole", _nothing), (setup_session, "check_whole", _nothing)],
        (lambda d: _update(d, "split"),),
    ),
    "no hidden minimum": (
        [(m, n, _nothing) for m in (policy, setup_session) for n in ("check_whole", "check_hidden")],
        (lambda d: _update(d, "alone"),),
    ),
    "no check of the round": ([(client, "check_round", _nothing)], (lambda d: _update(d, "alone"),)),
    "no basis of a retry": (  # the MAC covers it too
        [(Record, "check_round", _any_basis), (Record, "mac_of_retry", lambda *_: "")],
        (_update, lambda d: _update(d, "other model", 0, 1)),
    ),
    "H without the model": ([(Round, "bind", _unread_model)], (lambda d: _update(d, "two models"),)),
    "a score key twice": ([(Record, "_check_score", _nothing)], (_score, _score, _score)),
    "a score sum opened twice": ([(Record, "check_open", _nothing)], (_score, _retry)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_verdict_finds_what_is_broken(monkeypatch, mutant):
    """The intact client passes the same moves."""
    changes, moves = MUTANTS[mutant]
    Directed().play(*moves)
    for owner, name, replacement in changes:
        monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(Violation):
        Directed().play(*moves)


# the other two need a federation in two halves, or a whole score, a retry and its sum
FREQUENT = sorted(MUTANTS.keys() - {"no whole cohort", "a score sum opened twice"})


@pytest.mark.parametrize("mutant", FREQUENT)
def test_random_schedules_find_what_is_broken(monkeypatch, mutant):
    for owner, name, replacement in MUTANTS[mutant][0]:
        monkeypatch.setattr(owner, name, replacement)
    hunt = settings(
        settings.get_profile("schedules"), max_examples=150, phases=[Phase.generate], report_multiple_bugs=False
    )
    with pytest.raises(Violation):
        attack((4, 6), hunt)
