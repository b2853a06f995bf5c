import json

import numpy as np
import pytest

from fedprofile.errors import DataError, UsageError
from fedprofile.governance.deletion import Run, certify, verify_certificate
from fedprofile.governance.subjects import pseudonyms
from fedprofile.secagg.identity import Identity
from fedprofile.types import canonical


@pytest.fixture
def person(ledger):
    return pseudonyms(np.array(["A"]), ledger.subject_key)


def note(run, purpose="tiering"):
    return {"event": "trained", "run": run, "plan": "p" + run, "purpose": purpose, "at": 5, "customers": 9}


def named(part):
    return part and part["run"]


def test_a_certificate_names_the_last_run_with_the_person_and_the_first_for_its_purpose_without(ledger, person):
    ledger.request_deletion(person, "letter")
    cases = [
        ([], (None, None)),
        ([("1", True)], ("1", None)),
        ([("1", True), ("2", True), ("3", False), ("4", False)], ("2", "3")),
        ([("0", False), ("1", True), ("2", False)], ("1", "2")),
        ([("1", False), ("2", False)], (None, None)),
    ]
    for runs, expected in cases:
        certificate = certify(ledger, person, [Run(note(r), w) for r, w in runs], row_held=False)
        assert (named(certificate["last_model"]), named(certificate["first_without"])) == expected
    runs = [Run(note("1"), True), Run(note("2", "fraud"), False), Run(note("3"), False)]
    assert named(certify(ledger, person, runs, True)["first_without"]) == "3"


def test_only_who_asked_gets_one(ledger, person):
    with pytest.raises(UsageError, match="no deletion was requested"):
        certify(ledger, person, [], False)
    ledger.revoke(person, "app")
    with pytest.raises(UsageError, match="no deletion was requested"):
        certify(ledger, person, [], False)


def test_a_certificate_is_bound_to_holder_ledger_and_every_word(ledger, person, clock):
    ledger.request_deletion(person, "letter")
    head, clock.time = ledger.head, 2000
    certificate = certify(ledger, person, [Run(note("1"), True)], True)
    assert certificate["ledger"] == {"seq": head.seq, "hash": head.hash.hex()}
    assert (certificate["requested_at"], certificate["issued_at"]) == (1000, 2000)
    key = ledger.identity.sign_pk
    data = canonical(certificate)
    assert verify_certificate(data, key)["last_model"]["run"] == "1"
    assert verify_certificate(json.dumps(certificate, indent=4).encode(), key)["row_held"] is True
    with pytest.raises(DataError, match="not the holder's"):
        verify_certificate(data, Identity.from_seed(b"\1" * 32).sign_pk)
    for field in certificate:
        changed = {**certificate, field: "00" * 64 if field == "signature" else "other"}
        with pytest.raises(DataError):
            verify_certificate(canonical(changed), key)
        with pytest.raises(DataError):
            verify_certificate(canonical({k: v for k, v in certificate.items() if k != field}), key)
    for broken in (b"", b"[]", b"{}", b"null", data[:-1], b"[" * 100_000):
        with pytest.raises(DataError, match="not a deletion certificate"):
            verify_certificate(broken, key)
    assert ledger.noted("certificate")[-1]["subject"] == certificate["subject"]
