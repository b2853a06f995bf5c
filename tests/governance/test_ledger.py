import json

import numpy as np
import pytest

from fedprofile.errors import DataError, UsageError
from fedprofile.governance.chain import SIGNED_HEAD, Chain
from fedprofile.governance.consent_records import BLOCK, FOREVER, Terms
from fedprofile.governance.subjects import decode, encode, pseudonyms
from fedprofile.secagg.identity import Identity

TERMS = Terms("grant", "tiering", "tax", ("income",), "v1", "app")


def sign(ledger, ids, start=0, end=FOREVER):
    who = pseudonyms(np.array(ids), ledger.subject_key)
    return ledger.sign_up(TERMS, who, np.full(len(ids), start), np.full(len(ids), end))


def test_no_id_is_in_the_ledger_and_two_homes_write_one_person_differently(ledger, tmp_path, make_ledger):
    sign(ledger, ["ZHANG-SAN-4711"])
    assert b"4711" not in ledger.path.read_bytes()
    (tmp_path / "other").mkdir()
    other = make_ledger(tmp_path / "other", subject_key=bytes(32))
    sign(other, ["ZHANG-SAN-4711"])
    marks = [[r["subjects"] for r in chain if "subjects" in r] for chain in (ledger.chain, other.chain)]
    assert marks[0] != marks[1]
    assert "4711" not in repr(ledger)


def test_pseudonyms_are_the_first_half_of_an_hmac():
    import hmac

    who = pseudonyms(np.array(["A", "B"]), b"k" * 32)
    assert who.shape == (2, 2)
    assert who[1].tobytes() == hmac.digest(b"k" * 32, b"B", "sha256")[:16]
    assert decode(encode(who)).tolist() == who.tolist()


def test_many_customers_are_few_lines_and_the_same_again_is_none(ledger, make_ledger):
    n = BLOCK + 1
    who = np.random.default_rng(0).integers(0, 2**63, (n, 2)).astype(np.uint64)
    start = np.arange(n)
    assert ledger.sign_up(TERMS, who, start, np.full(n, FOREVER)) == n
    assert (ledger.head.seq, len(ledger.consents.subjects())) == (3, n)
    again = make_ledger(ledger.path.parent)
    assert again.sign_up(TERMS, who, start, np.full(n, FOREVER)) == 0
    assert again.sign_up(TERMS, who[:2], start[:2] + 1, np.full(2, FOREVER)) == 2


def test_a_ledger_of_another_holder_key_or_secret_is_refused(ledger, make_ledger):
    sign(ledger, ["A"])
    cases = {
        "line 1: not a record of this home's ledger": [{"holder": "bank"}, {"subject_key": bytes(32)}],
        "line 2: the signature is not the holder's": [{"identity": Identity.from_seed(b"\1" * 32)}],
    }
    for message, changes in cases.items():
        for change in changes:
            with pytest.raises(DataError, match=message):
                make_ledger(ledger.path.parent, **change).refresh()


@pytest.mark.parametrize(
    "record",
    [
        {"event": "grant"},
        {"event": "revocation", "at": 1, "purpose": "", "recipient": "", "channel": "app", "subjects": "AAAA"},
        {"event": "grant", "at": 1, "purpose": "p", "recipient": "tax", "classes": [], "text": "v", "channel": "c",
         "subjects": "A" * 43 + "=", "from": "AAAAAAAAAAA=", "to": 5},
        {"at": 1},
        {"event": "grant", "at": "soon"},
    ],
    ids=str,
)  # fmt: skip
def test_a_signed_line_that_makes_no_sense_is_refused_with_its_number(ledger, make_ledger, record):
    ledger.chain.append(record)
    with pytest.raises(DataError, match=r"consent\.jsonl, line 2: not a record"):
        make_ledger(ledger.path.parent).refresh()


def test_without_a_ledger_there_is_no_answer(ledger, tmp_path, make_ledger):
    ledger.path.unlink()
    with pytest.raises(UsageError, match="no consent ledger"):
        ledger.refresh()


def test_a_cut_revocation_is_noticed(ledger, make_ledger):
    sign(ledger, ["A"])
    before = ledger.path.read_bytes()
    ledger.revoke(pseudonyms(np.array(["A"]), ledger.subject_key), "app")
    ledger.path.write_bytes(before)
    with pytest.raises(DataError, match="line 3: lines were cut"):
        make_ledger(ledger.path.parent).refresh()


def test_records_never_go_back_in_time_and_nobody_is_no_record(ledger, clock):
    sign(ledger, ["A"])
    clock.time = 10
    ledger.revoke(pseudonyms(np.array(["A"]), ledger.subject_key), "app")
    assert [r["at"] for r in ledger.chain] == [1000, 1000, 1000]
    with pytest.raises(UsageError, match="nobody"):
        ledger.revoke(pseudonyms(np.array([], dtype=str), ledger.subject_key), "app")


def test_counts_tell_purposes_and_recipients_but_nobody(ledger):
    sign(ledger, ["A", "B", "C"], end=5000)
    who = pseudonyms(np.array(["B", "C", "D"]), ledger.subject_key)
    terms = Terms("authorisation", "tiering", "bank", (), "v1", "app")
    ledger.sign_up(terms, who, np.full(3, 0), np.full(3, FOREVER))
    ledger.revoke(who[1:2], "app", recipient="bank")
    count = ledger.consents.counts(2000, "tax")
    assert count == [{"purpose": "tiering", "granted": 3, "authorised": {"bank": 1}}]
    assert ledger.consents.counts(5000, "tax")[0]["granted"] == 0


def test_anybody_with_the_public_key_can_verify_the_lines(ledger):
    sign(ledger, ["A"])
    reader = Chain(ledger.path, "consent")
    assert reader.verify(Identity.from_seed(bytes(32)).sign_pk) == ledger.head
    assert json.loads(ledger.path.read_bytes().splitlines()[-1])["sig"]
    assert SIGNED_HEAD == "chain"
