"""Two people and passing gates, or nothing: the honest way once, then every other way that we could think of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from office import NOW, ROLES, YEAR, A, B, C, Office, key, verdict

from fedprofile.errors import DataError, FedprofileError, UsageError
from fedprofile.governance.approvals import DAY, MAX_DAYS
from fedprofile.governance.people import People, nobody, person
from fedprofile.governance.promotion import DECIDERS, Refused, objections


@pytest.fixture
def office() -> Office:
    return Office()


def test_passing_gates_and_two_people_make_a_champion_and_a_reader_agrees(office):
    office.champion(A)
    assert office.state.champion == A
    assert office.state.challenger is None
    assert office.replayed() == office.state


def test_either_role_may_be_filled_by_one_who_holds_both(office):
    office.gate()
    office.approve("qian", role="validator")
    office.approve("zhao")
    office.promote()
    assert office.state.champion == A


def wait(office: Office, days: float) -> None:
    office.now += int(days * DAY)


# Approvals in this table are smuggled past the check on their way into the log: promotion must not rely on it.
TRICKS = {
    "nobody approves": lambda o: None,
    "one validator": lambda o: o.approve("wang"),
    "one approver": lambda o: o.approve("zhao"),
    "two validators": lambda o: (o.approve("wang"), o.approve("qian", role="validator")),
    "two approvers": lambda o: (o.approve("zhao"), o.approve("qian", role="approver")),
    "one person in both roles": lambda o: (o.approve("qian", role="validator"), o.approve("qian", role="approver")),
    "the same approval twice": lambda o: o.smuggle(*[o.approval("wang")] * 2),
    "the same person on two days": lambda o: (o.approve("wang"), wait(o, 1), o.approve("wang")),
    "the trainer approves": lambda o: (o.approve("zhao"), o.smuggle(o.approval("li", role="validator"))),
    "a trainer who is a validator too approves the own model": lambda o: (
        o.gate(trainer=key("zhou").sign_pk.hex()),
        o.approve("zhao"),
        o.smuggle(o.approval("zhou", role="validator")),
    ),
    "an approval of another bundle": lambda o: (o.approve("zhao"), o.smuggle(o.approval("wang", manifest=B))),
    "an approval of another gate report": lambda o: (o.approve("zhao"), o.smuggle(o.approval("wang", report=B))),
    "an approval of another registry": lambda o: (o.approve("zhao"), o.smuggle(o.approval("wang", registry=B))),
    "the gates ran again after the approvals": lambda o: (o.both(), o.gate(report=B)),
    "an approval that has expired": lambda o: (o.approve("wang"), wait(o, 14), o.approve("zhao")),
    "an approval from the future": lambda o: (
        o.approve("zhao"),
        o.smuggle(o.approval("wang", made=NOW + DAY, expires=NOW + 2 * DAY)),
    ),
    "an approval for longer than allowed": lambda o: (
        o.approve("zhao"),
        o.smuggle(o.approval("wang", expires=NOW + MAX_DAYS * DAY + 1)),
    ),
    "a person revoked after approving": lambda o: (o.both(), o.revoke("wang")),
    "a person whose time is over": lambda o: (
        wait(o, 364.5),
        o.gate(),
        o.both(),
        wait(o, 0.5),
        o.change(o.people.added(person("new", key("new").sign_pk, ("operator",), NOW + 2 * YEAR), key("root"))),
    ),
    "a person who is not in the file": lambda o: (o.approve("zhao"), o.smuggle(o.approval("eve", role="validator"))),
    "another's key under a registered name": lambda o: (o.approve("zhao"), o.smuggle(o.approval("wang", signer="li"))),
    "the root key under a registered name": lambda o: (o.approve("zhao"), o.smuggle(o.approval("wang", signer="root"))),
    "one key under two names": lambda o: (o.approve("zhao"), o.smuggle(o.approval("wang", signer="zhao"))),
    "no signature": lambda o: (o.approve("zhao"), o.smuggle(replace(o.approval("wang"), signature=b""))),
    "a role that the person does not hold": lambda o: (o.approve("wang"), o.smuggle(o.approval("wang", role="approver"))),
    "an auditor approves": lambda o: (o.approve("zhao"), o.smuggle(o.approval("sun", role="validator"))),
    "an operator approves": lambda o: (o.approve("zhao"), o.smuggle(o.approval("chen", role="operator"))),
    "the role changed after the signature": lambda o: (
        o.approve("zhao"),
        o.smuggle(replace(o.approval("qian", role="approver"), role="validator")),
    ),
    "the person changed after the signature": lambda o: (
        o.approve("zhao"),
        o.smuggle(replace(o.approval("qian", role="validator"), person="wang")),
    ),
    "the bundle changed after the signature": lambda o: (
        o.approve("zhao"),
        o.smuggle(replace(o.approval("wang", manifest=B), manifest=A)),
    ),
    "the expiry changed after the signature": lambda o: (
        o.approve("wang"),
        wait(o, 20),
        o.smuggle(replace(o.state.releases[A].approvals[0], expires=NOW + 60 * DAY)),
        o.approve("zhao"),
    ),
    "a rejection turned into an approval": lambda o: (
        o.approve("zhao"),
        o.smuggle(replace(o.approval("wang", decision="reject"), decision="approve")),
    ),
    "an approval that says neither yes nor no": lambda o: (
        o.approve("zhao"),
        o.smuggle(o.approval("wang", decision="maybe")),
    ),
    "a third person rejects": lambda o: (o.both(), o.approve("qian", role="validator", decision="reject")),
    "a person thinks better of it": lambda o: (o.both(), o.approve("wang", decision="reject")),
    "a rejection runs out before the approval that it replaced": lambda o: (
        o.smuggle(o.approval("wang", expires=NOW + 80 * DAY)),
        o.approve("wang", decision="reject"),
        wait(o, 20),
        o.approve("zhao"),
    ),
    "the gates did not pass": lambda o: (o.gate(passed=False), o.both()),
    "the champion changed since the gates ran": lambda o: (o.both(), o.champion(B)),
    "the version was retired": lambda o: (o.both(), o.write("retire", "chen", manifest=A, reason="bias found")),
    "the trainer was revoked": lambda o: (o.both(), o.revoke("li")),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_promote_nothing(office, trick):
    office.gate()
    TRICKS[trick](office)
    before = office.state
    by = "new" if office.people.get("new") else "chen"
    with pytest.raises(UsageError):
        office.promote(by=by)
    assert office.state is before
    assert objections(before, A, office.now)
    assert before.champion in (None, B)


def test_there_are_enough_tricks():
    assert len(TRICKS) >= 25


def test_the_table_would_pass_with_two_honest_smuggled_approvals(office):
    office.gate()
    office.smuggle(office.approval("wang"), office.approval("zhao"))
    office.promote()
    assert office.state.champion == A


@pytest.mark.parametrize("event", DECIDERS)
@pytest.mark.parametrize("who", ROLES)
def test_only_the_role_may(office, event, who):
    office.champion(A)
    office.champion(B)
    office.gate(C, trainer=key("li").sign_pk.hex())
    if event != "gate":
        office.approve("qian", C, role="validator")
        office.approve("zhao", C)
    fields = {
        "gate": {"manifest": C, "version": "", "trainer": key("li").sign_pk.hex(), "verdict": verdict(C), "champion": B},
        "approve": {"approval": office.approval(who, C, role="approver" if who == "zhao" else "validator").to_json()},
        "promote": {"manifest": C},
        "rollback": {"manifest": A, "reason": "drift"},
        "retire": {"manifest": C, "reason": "bias"},
        "shadow": {"manifest": C},
    }[event]  # fmt: skip
    if set(ROLES[who]) & set(DECIDERS[event]):
        office.write(event, who, **fields)
        assert office.replayed().head == office.state.head
    else:
        with pytest.raises(UsageError):
            office.write(event, who, **fields)


@pytest.mark.parametrize(
    "change",
    [
        {"trainer": key("eve").sign_pk.hex()},  # a trainer whom nobody knows
        {"trainer": key("zhao").sign_pk.hex()},  # who is no trainer
        {"trainer": key("zhou").sign_pk.hex(), "by": "zhou"},  # who judges the own model
        {"champion": B},  # compared with what is no champion
        {"verdict": verdict(B)},  # of another bundle
        {"verdict": verdict(A, passed=False) | {"passed": True}},  # that passes what failed
    ],
)
def test_gates_that_do_not_count_are_not_logged(office, change):
    with pytest.raises(Refused):
        office.gate(**change)


def test_a_rollback_goes_to_an_earlier_champion_only(office):
    office.champion(A)
    office.champion(B)
    office.gate(C)
    for manifest, reason in [(C, "drift"), (B, "drift"), (A, "  ")]:
        with pytest.raises(Refused):
            office.write("rollback", "chen", manifest=manifest, reason=reason)
    office.write("rollback", "chen", manifest=A, reason="drift")
    office.write("rollback", "chen", manifest=B, reason="drift was seasonal")
    assert office.state.champions == (A, B, A, B)
    office.write("retire", "chen", manifest=A, reason="old")
    with pytest.raises(Refused, match="retired"):
        office.write("rollback", "chen", manifest=A, reason="drift")
    with pytest.raises(Refused, match="is the champion"):
        office.write("retire", "chen", manifest=B, reason="old")


FORGERIES = {
    "a promotion without approvals": ({"event": "promote", "manifest": A}, "chen", "chen"),
    "a promotion under another's name": ({"event": "rollback", "manifest": B, "reason": "x"}, "chen", "wang"),
    "a rollback by the auditor": ({"event": "rollback", "manifest": B, "reason": "x"}, "sun", "sun"),
    "an earlier time": ({"event": "shadow", "manifest": A, "at": NOW - 1}, "chen", "chen"),
    "an event of no kind": ({"event": "crown", "manifest": A}, "chen", "chen"),
    "people signed by another": ({"event": "people", "people": nobody(key("eve")).to_json()}, "root", "eve"),
    "the first people again": ({"event": "people", "people": nobody(key("root")).to_json()}, "root", "root"),
    "people of the root, handed in by another": ({"event": "people", "people": nobody(key("root")).to_json()}, "chen", "chen"),
    "something else": ({"event": "approve", "approval": {"role": 1}}, "wang", "wang"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_reader_finds_a_line_that_breaks_the_rules_whoever_signed_it(office, forgery):
    office.champion(B)
    office.champion(C)
    office.gate(A)
    assert office.replayed() == office.state
    fields, by, signer = FORGERIES[forgery]
    head = office.force({"by": by, "at": office.now, **fields}, signer)
    with pytest.raises(DataError, match=f"line {head.seq}:"):
        office.replayed()


def test_of_a_person_s_approvals_the_last_counts(office):
    office.gate()
    office.approve("wang", decision="reject")
    office.both()
    office.promote()
    assert office.state.champion == A


def test_people_are_added_once_and_never_dropped(office):
    root, people = key("root"), office.people
    for wrong in [("li", "other"), ("other", "li"), ("other", "root")]:
        with pytest.raises(UsageError):
            people.added(person(wrong[0], key(wrong[1]).sign_pk, ("trainer",), NOW + YEAR), root)
    with pytest.raises(UsageError):
        people.revoked("nobody", NOW, root)
    shorter = People(people.version + 1, people.hash, people.persons[1:])._signed(root)
    with pytest.raises(DataError, match="dropped"):
        shorter.verified(root.sign_pk, people)
    twice = People(people.version + 1, people.hash, (*people.persons, people.persons[0]))._signed(root)
    with pytest.raises(DataError, match="share"):
        twice.verified(root.sign_pk, people)
    assert People.from_json(people.to_json()) == people


@pytest.mark.parametrize(
    ("id", "sign_pk", "roles"),
    [
        ("Li", key("x").sign_pk, ("trainer",)),
        ("root", key("x").sign_pk, ("trainer",)),
        ("x", bytes(32), ("trainer",)),
        ("x", b"short", ("trainer",)),
        ("x", key("x").sign_pk, ()),
        ("x", key("x").sign_pk, ("king",)),
        ("x", key("x").sign_pk, ("auditor", "operator")),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(id, sign_pk, roles):
    with pytest.raises(FedprofileError):
        person(id, sign_pk, roles, NOW)
