"""What is left agrees with what the limits enforce, and reading never disturbs who writes."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.node.budgets import Budget, JournalTail, Tally, budgets
from fedprofile.node.policy import read_policy, write_policy
from fedprofile.secagg.record import DAY_SECONDS, Record
from fedprofile.types import canonical

EVENTS = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["upload", "open", "finished"]),
        "at": st.integers(0, 3 * DAY_SECONDS),
        "run": st.sampled_from(["aa", "bb"]),
        "kind": st.sampled_from(["stats", "update", "score"]),
        "scope": st.just(""),
        "t": st.integers(0, 5),
        "attempt": st.just(0),
        "members": st.just(["bank", "tax"]),
        "basis": st.just(""),
        "score": st.sampled_from(["", "00/11/0", "00/11/1"]),
    }
)


@settings(max_examples=50)
@given(st.lists(EVENTS, max_size=15))
def test_counts_are_those_that_the_limits_use(events):
    tally, record = Tally(), Record(events)
    for event in events:
        tally.add(event)
    assert tally.uploads == record._uploads
    assert tally.days == record._days
    assert set(tally.scores.values()) == set(record._scores.values())


@settings(max_examples=50)
@given(st.lists(EVENTS, max_size=8), st.lists(st.integers(0, 3000), max_size=6))
def test_a_journal_read_at_any_moment_is_counted_once_and_left_alone(tmp_path_factory, events, cuts):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    data, whole = b"".join(canonical(e) + b"\n" for e in events), Tally()
    for event in events:
        whole.add(event)
    tail = JournalTail(path)
    assert tail.read() == Tally()
    for cut in sorted(min(c, len(data)) for c in cuts):
        path.write_bytes(data[:cut])
        tail.read()
        assert path.read_bytes() == data[:cut], "a line in the making is its writer's"
    path.write_bytes(data)
    assert tail.read() == whole
    assert tail.read() == whole


def test_a_limit_below_what_was_used_leaves_nothing():
    assert (Budget(3, 5).left, Budget(5, 5).left, Budget(9, 5).left) == (2, 0, 0)


def test_after_a_training(finished):
    world, outcome = finished
    home = world.home("tax")
    write_policy(home, read_policy(home).__class__(**{**vars(read_policy(home)), "max_uploads": 50}))
    tally = JournalTail(home.keys / "journal.jsonl").read()
    last = max(json.loads(line).get("at", 0) for line in (home.keys / "journal.jsonl").read_text().splitlines())
    spent = budgets(home, tally, last)
    plan = world.job.plan
    rounds = plan.learning.rounds
    assert (spent.round, spent.rounds) == (rounds, rounds) == (len(outcome.summaries),) * 2
    assert tally.kinds["update"] == rounds
    assert spent.uploads_run == Budget(sum(tally.kinds.values()), 50)
    assert spent.openings.used == 1
    assert spent.label_eps == plan.label_eps * len(plan.tasks)
    assert budgets(home, tally, last + DAY_SECONDS).uploads_day.used == 0
