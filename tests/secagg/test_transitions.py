"""The tables themselves: no way back after consent, no two openings, nothing that a side cannot reach."""

from __future__ import annotations

import pytest

from fedprofile.secagg import transitions as tables
from fedprofile.secagg.transitions import AT_NODE, State, Sum

NODE = {"strict": tables.STRICT_AT_NODE, "resilient": tables.RESILIENT_AT_NODE}
COORDINATOR = {"strict": tables.STRICT_AT_COORDINATOR, "resilient": tables.RESILIENT_AT_COORDINATOR}


def _reachable(table, start):
    seen, front = {start}, [start]
    while front:
        at = front.pop()
        for (state, _), after in table.items():
            if state == at and after not in seen:
                seen.add(after)
                front.append(after)
    return seen


@pytest.mark.parametrize("profile", ["strict", "resilient"])
def test_every_state_of_a_table_is_reached_and_refusals_have_a_code(profile):
    for table, start in ((NODE[profile], Sum.NONE), (COORDINATOR[profile], Sum.COLLECTING)):
        named = {s for s, _ in table} | set(table.values())
        assert _reachable(table, start) == named
    assert {s for s, _ in NODE[profile]} <= set(AT_NODE)


def test_what_a_node_agreed_to_or_revealed_ends_its_t():
    for state in (Sum.AGREED, Sum.REVEALED):
        assert (state, "Retry") not in tables.RESILIENT_AT_NODE
        assert (state, "Upload") not in tables.RESILIENT_AT_NODE
    assert (Sum.REVEALED, "Survivors") not in tables.RESILIENT_AT_NODE
    # from REVEALED only another t leads on; the same question again changes nothing
    assert [e for s, e in tables.RESILIENT_AT_NODE if s is Sum.REVEALED] == ["Round", "Open"]
    for state, event in ((Sum.AGREED, "Survivors"), (Sum.REVEALED, "Open")):
        assert tables.RESILIENT_AT_NODE[state, event] is state


def test_the_coordinator_opens_once_and_takes_no_upload_after_naming_survivors():
    for table in COORDINATOR.values():
        assert not [e for s, e in table if s is Sum.OPENED]
        assert [s for s, e in table if e == "Upload"] == [Sum.COLLECTING]


def test_a_closed_session_stays_closed():
    assert not [e for s, e in tables.SETUP_AT_NODE if s is State.CLOSED]
