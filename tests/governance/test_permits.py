"""The permit against the plainest reading of the rules: one customer, one moment, one record after the other."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprofile.errors import ConfigError
from fedprofile.governance.consent_records import FOREVER, Terms
from fedprofile.governance.consents import Wanted
from fedprofile.governance.permits import LedgerPermit, permit_named
from fedprofile.governance.subjects import pseudonyms

JOINT = ("alignment", "training", "label_release", "score")
WANTED = Wanted("tiering", "tax", "bank", ("income",))


def at(second):
    return datetime.fromtimestamp(second, UTC)


def terms(kind, purpose="tiering", recipient="", classes=("income",)):
    return Terms(kind, purpose, recipient or ("tax" if kind == "grant" else "bank"), classes, "v1", "app")


def sign(ledger, who, kinds=("grant", "authorisation"), start=0, end=FOREVER, **more):
    subjects = pseudonyms(np.array(who), ledger.subject_key)
    for kind in kinds:
        ledger.sign_up(terms(kind, **more), subjects, np.full(len(who), start), np.full(len(who), end))


def revoke(ledger, who, **scope):
    ledger.revoke(pseudonyms(np.array(who), ledger.subject_key), "app", **scope)


def allowed(permit, who, use="training", second=2000):
    return permit.allowed(np.array(who), use, at(second)).tolist()


def test_simulated_consent_covers_everybody():
    permit = permit_named("simulated")
    given = permit.allowed(np.array(["a", "b"]), "training", datetime.now(UTC))
    assert given.tolist() == [True, True]
    assert given.dtype == np.bool_


def test_no_other_consent_is_made_up(ledger):
    for name, offer in (("ledger", None), ("Ledger", lambda: 1), ("", lambda: 1)):
        with pytest.raises(ConfigError) as error:
            permit_named(name, offer)
        assert error.value.key == "federation.consent"
    permit = LedgerPermit(ledger, WANTED)
    assert permit_named("ledger", lambda: permit) is permit


def test_a_joint_use_needs_the_second_authorisation_own_work_the_grant_alone(ledger):
    sign(ledger, ["both"])
    sign(ledger, ["grant"], ["grant"])
    sign(ledger, ["auth"], ["authorisation"])
    permit, who = LedgerPermit(ledger, WANTED), ["grant", "both", "auth", "nobody"]
    for use in JOINT:
        assert allowed(permit, who, use) == [False, True, False, False], use
    assert allowed(permit, who, "own") == [True, True, False, False]


@pytest.mark.parametrize(
    "other",
    [
        {"purpose": "marketing"},
        {"recipient": "shop"},
        {"classes": ("visits",)},
        {"classes": ()},
    ],
    ids=str,
)
def test_consent_to_something_else_is_none(ledger, other):
    sign(ledger, ["a"], **other)
    assert allowed(LedgerPermit(ledger, WANTED), ["a"]) == [False]


def test_more_classes_than_needed_are_enough(ledger):
    sign(ledger, ["a"], classes=("income", "visits"))
    assert allowed(LedgerPermit(ledger, WANTED), ["a"]) == [True]


def test_terms_hold_from_their_first_second_to_before_their_last(ledger):
    sign(ledger, ["a"], start=1500, end=1600)
    permit = LedgerPermit(ledger, WANTED)
    cases = {1499.999: False, 1500: True, 1599.999: True, 1600: False}
    assert {second: allowed(permit, ["a"], second=second)[0] for second in cases} == cases
    china = timezone(timedelta(hours=8))
    assert permit.allowed(np.array(["a"]), "score", at(1500).astimezone(china)).tolist() == [True]
    with pytest.raises(ValueError, match="zone"):
        permit.allowed(np.array(["a"]), "score", datetime(2026, 1, 1))


def test_a_clock_that_was_set_back_brings_nothing_back(ledger, clock):
    sign(ledger, ["a"], end=1500)
    clock.time = 1600
    sign(ledger, ["b"])
    permit = LedgerPermit(ledger, WANTED)
    assert allowed(permit, ["a", "b"], second=1000) == [False, True]
    clock.time = 900
    revoke(ledger, ["b"])
    assert ledger.consents.latest == 1600
    assert allowed(permit, ["b"], second=800) == [False]


def test_a_revocation_counts_at_the_next_question(ledger, clock, make_ledger):
    sign(ledger, ["a", "b"])
    permit, who = LedgerPermit(ledger, WANTED), np.array(["a", "b"])
    assert permit.allowed(who, "score", at(2000)).tolist() == [True, True]
    elsewhere = make_ledger(ledger.path.parent)  # another process of the same home
    revoke(elsewhere, ["a"])
    assert permit.allowed(who, "score", at(2000)).tolist() == [False, True]


def test_an_old_list_brings_nobody_back_a_new_signature_does(ledger, clock):
    sign(ledger, ["a"], start=500)
    clock.time = 1200
    revoke(ledger, ["a"])
    permit = LedgerPermit(ledger, WANTED)
    for start in (500, 600, 1200):
        sign(ledger, ["a"], start=start)
        assert allowed(permit, ["a"]) == [False]
    sign(ledger, ["a"], start=1201)
    assert allowed(permit, ["a"]) == [True]


def test_one_purpose_or_one_recipient_can_be_taken_back_alone(ledger):
    sign(ledger, ["a"])
    sign(ledger, ["a"], ["authorisation"], recipient="shop")
    sign(ledger, ["a"], purpose="fraud")
    ask = {
        "bank": LedgerPermit(ledger, WANTED),
        "shop": LedgerPermit(ledger, Wanted("tiering", "tax", "shop")),
        "fraud": LedgerPermit(ledger, Wanted("fraud", "tax", "bank")),
    }

    def state():
        return {name: allowed(permit, ["a"])[0] for name, permit in ask.items()}

    assert state() == {"bank": True, "shop": True, "fraud": True}
    revoke(ledger, ["a"], purpose="fraud")
    assert state() == {"bank": True, "shop": True, "fraud": False}
    revoke(ledger, ["a"], recipient="shop")
    assert state() == {"bank": True, "shop": False, "fraud": False}
    revoke(ledger, ["a"])
    assert state() == {"bank": False, "shop": False, "fraud": False}


PURPOSES, RECIPIENTS, CLASSES = ("tiering", "fraud"), ("bank", "shop", "tax"), ((), ("income",), ("income", "visits"))


def history(rng, subjects, events):
    """Random records as plain tuples, in ledger order, and the times at which they were written."""
    out, clock = [], 0
    for _ in range(events):
        clock += int(rng.integers(-2, 6))
        who = sorted(set(rng.integers(0, subjects, rng.integers(1, 6)).tolist()))
        what = rng.choice(["grant", "authorisation", "revocation", "deletion"], p=[0.45, 0.42, 0.1, 0.03])
        purpose = str(rng.choice(PURPOSES, p=[0.8, 0.2]))
        recipient = str(rng.choice(RECIPIENTS, p=[0.2, 0.1, 0.7] if what == "grant" else [0.7, 0.2, 0.1]))
        start = max(0, clock + int(rng.integers(-10, 15)))
        span = start, start + int(rng.integers(1, 60)) if rng.random() < 0.7 else FOREVER
        if what == "revocation":
            purpose, recipient = [v if rng.random() < 0.5 else "" for v in (purpose, recipient)]
        classes = CLASSES[rng.integers(0, 3)]
        out.append((str(what), who, purpose, recipient, classes, span, clock))
    return out


def as_written(records):
    """The records that the ledger keeps: the same signature again is no new one, and time never goes back."""
    latest, written = 0, []
    for what, who, *rest, when in records:
        had = {i for w, whose, *other, _ in written if (w, other) == (what, rest) for i in whose}
        new = sorted(set(who) - had) if what in ("grant", "authorisation") else who
        if new:
            latest = max(latest, when)
            written.append((what, new, *rest, latest))
    return written


def naive(written, subject, use, wanted, now):
    """One customer at one moment: every rule as it is written in ``governance.consents``."""
    moment = max(now, *(r[6] for r in written), 0)

    def holds(kind, recipient):
        for i, (what, who, purpose, whom, classes, (start, end), _) in enumerate(written):
            fits = what == kind and subject in who and purpose == wanted.purpose and whom == recipient
            if not fits or not set(wanted.classes) <= set(classes) or not start <= moment < end:
                continue
            dead = False
            for j, (other, whose, scope, to, _, _, when) in enumerate(written):
                covers = other == "deletion" or (other == "revocation" and scope in ("", purpose) and to in ("", whom))
                if covers and subject in whose and (j > i or start <= when):
                    dead = True
            if not dead:
                return True
        return False

    return holds("grant", wanted.holder) and (use == "own" or holds("authorisation", wanted.recipient))


def play(ledger, clock, records, ids):
    for what, who, purpose, recipient, classes, (start, end), when in records:
        clock.time = when
        subjects = pseudonyms(ids[who], ledger.subject_key)
        if what == "deletion":
            ledger.request_deletion(subjects, "app")
        elif what == "revocation":
            ledger.revoke(subjects, "app", purpose=purpose, recipient=recipient)
        else:
            signed = Terms(what, purpose, recipient, classes, "v1", "app")
            ledger.sign_up(signed, subjects, np.full(len(who), start), np.full(len(who), end))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), events=st.integers(0, 14))
def test_the_permit_says_what_the_plain_reading_says(tmp_path_factory, make_ledger, clock, seed, events):
    rng = np.random.default_rng(seed)
    clock.time = 0
    ledger = make_ledger(tmp_path_factory.mktemp("ledger"))
    ids = np.array([f"C{i}" for i in range(12)])
    records = history(rng, len(ids), events)
    play(ledger, clock, records, ids)
    written = as_written(records)
    for _ in range(4):
        wanted = Wanted(str(rng.choice(PURPOSES)), "tax", str(rng.choice(RECIPIENTS)), CLASSES[rng.integers(0, 3)])
        permit, use = LedgerPermit(ledger, wanted), str(rng.choice(("own", *JOINT)))
        for second in (clock.time + rng.integers(-20, 30, 4)).tolist():
            expected = [naive(written, i, use, wanted, second) for i in range(len(ids))]
            assert permit.allowed(ids, use, at(second)).tolist() == expected


def test_no_unpermitted_row_in_a_million(tmp_path, make_ledger, clock):
    """Many customers, few histories: the plain reading is made once a history, the permit answers for all."""
    rng = np.random.default_rng(7)
    kinds, customers, steps, moments = 60, 20_000, 10, 5
    of = rng.integers(0, kinds, customers)
    ids = np.array([f"C{i}" for i in range(customers)])
    members = [np.flatnonzero(of == k) for k in range(kinds)]
    clock.time = 0
    ledger, records = make_ledger(tmp_path), history(rng, kinds, 150)
    permit, checked, wrong, yes = LedgerPermit(ledger, WANTED), 0, 0, 0
    for done in np.linspace(15, 150, steps).astype(int).tolist():
        fresh, written = records[done - 15 : done], as_written(records[:done])
        play(ledger, clock, [(w, np.concatenate([members[k] for k in who]), *rest) for w, who, *rest in fresh], ids)
        for second in (clock.time + rng.integers(-10, 25, moments)).tolist():
            expected = np.array([naive(written, k, "training", WANTED, second) for k in range(kinds)])[of]
            got = permit.allowed(ids, "training", at(second))
            checked, wrong, yes = checked + len(ids), wrong + int((got != expected).sum()), yes + int(got.sum())
    assert (checked, wrong) == (1_000_000, 0)
    assert yes > 50_000
