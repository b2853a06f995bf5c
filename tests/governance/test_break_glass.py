from dataclasses import replace

import numpy as np
import pytest

from fedprofile.errors import DataError, UsageError
from fedprofile.governance.break_glass import (
    Approval,
    approve,
    dismiss,
    from_json,
    register,
    request,
    spend,
    to_json,
)
from fedprofile.governance.subjects import pseudonyms
from fedprofile.secagg.identity import Identity

LI, WANG, EVE = (Identity.from_seed(bytes([i]) * 32) for i in (1, 2, 3))


@pytest.fixture
def person(ledger):
    register(ledger, "li", LI.sign_pk)
    register(ledger, "wang", WANG.sign_pk)
    return pseudonyms(np.array(["A"]), ledger.subject_key)


@pytest.fixture
def made(ledger, person):
    return request(ledger, person, ["income"], "complaint", 24)


def both(made):
    return [approve(made, "li", LI), approve(made, "wang", WANG)]


def opened(ledger):
    return len(ledger.noted("break-glass-open"))


def test_two_people_open_a_request_once_and_it_is_recorded(ledger, made):
    spend(ledger, made, both(made))
    (record,) = ledger.noted("break-glass-open")
    assert (record["approvers"], record["columns"], record["reason"]) == (["li", "wang"], ["income"], "complaint")
    assert (record["request"], record["subject"]) == (made.hash.hex(), made.subject)
    with pytest.raises(UsageError, match="opened before"):
        spend(ledger, made, both(made))
    assert opened(ledger) == 1


TRICKS = {
    "nobody": lambda made, _: [],
    "one person": lambda made, _: both(made)[:1],
    "the same person twice": lambda made, _: [approve(made, "li", LI)] * 2,
    "one key under two names": lambda made, _: [approve(made, "li", LI), approve(made, "wang", LI)],
    "a name that is not registered": lambda made, _: [*both(made), approve(made, "eve", EVE)],
    "another's key under a registered name": lambda made, _: [approve(made, "li", LI), approve(made, "wang", EVE)],
    "approvals of a copy with more columns": lambda made, _: both(replace(made, columns=("income", "job"))),
    "approvals of a copy with another subject": lambda made, _: both(replace(made, subject="00" * 16)),
    "approvals of a copy that expires later": lambda made, _: both(replace(made, expires=made.expires + 1)),
    "approvals of another request": lambda made, twin: both(twin),
    "an empty signature": lambda made, _: [approve(made, "li", LI), Approval("wang", b"")],
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_with_approvals_open_nothing(ledger, person, made, trick):
    twin = request(ledger, person, ["income"], "complaint", 24)
    with pytest.raises(UsageError):
        spend(ledger, made, TRICKS[trick](made, twin))
    assert opened(ledger) == 0


@pytest.mark.parametrize(
    "change",
    [{"columns": ("job",)}, {"subject": "00" * 16}, {"holder": "bank"}, {"expires": 10**10}, {"reason": "court_order"}],
    ids=str,
)
def test_a_request_that_was_not_made_here_opens_nothing_whoever_signs(ledger, made, change):
    forged = replace(made, **change)
    with pytest.raises(UsageError, match="not made here"):
        spend(ledger, forged, both(forged))
    assert opened(ledger) == 0


def test_an_expired_request_opens_nothing_nor_does_one_whose_clock_is_set_back(ledger, made, clock):
    clock.time = made.expires
    with pytest.raises(UsageError, match="expired"):
        spend(ledger, made, both(made))
    ledger.note("anything")
    clock.time = made.requested
    with pytest.raises(UsageError, match="expired"):
        spend(ledger, made, both(made))


def test_a_custodian_who_left_approves_nothing_not_even_before(ledger, made):
    signed = both(made)
    dismiss(ledger, "wang")
    with pytest.raises(UsageError, match="no registered custodian"):
        spend(ledger, made, signed)
    register(ledger, "wang", EVE.sign_pk)
    with pytest.raises(UsageError, match="not of this request"):
        spend(ledger, made, signed)
    spend(ledger, made, [approve(made, "li", LI), approve(made, "wang", EVE)])


def test_who_asked_to_be_deleted_is_read_no_more(ledger, person, made):
    ledger.request_deletion(person, "app")
    with pytest.raises(UsageError, match="deleted"):
        spend(ledger, made, both(made))


def test_a_key_is_of_one_person_for_ever(ledger, person):
    for name, key in (("li", EVE.sign_pk), ("li2", LI.sign_pk), ("weak", bytes(32)), ("short", b"x")):
        with pytest.raises(UsageError):
            register(ledger, name, key)
    dismiss(ledger, "li")
    with pytest.raises(UsageError, match="before"):
        register(ledger, "li", LI.sign_pk)
    with pytest.raises(UsageError, match="no custodian"):
        dismiss(ledger, "li")


def test_a_request_has_a_listed_reason_columns_and_at_most_three_days(ledger, person):
    for columns, reason, hours in ((["x"], "curious", 1), ([], "complaint", 1), (["x"], "complaint", 73)):
        with pytest.raises(UsageError):
            request(ledger, person, columns, reason, hours)


def test_a_request_travels_as_a_file(made):
    assert from_json(to_json(made, both(made)), "r.json") == (made, both(made))
    for broken in (b"", b"{}", b"[]", to_json(made)[:-1], to_json(made).replace(b'"nonce"', b'"nonsense"')):
        with pytest.raises(DataError, match=r"r\.json"):
            from_json(broken, "r.json")
