"""A partner's word on the encoder that it keeps: its own, of one run, and it hides the file."""

import pytest

from fedprofile.acknowledging import Acknowledgement, all_checked
from fedprofile.secagg.identity import Identity
from fedprofile.types import Party, Roster

KEYS = {party: Identity.from_seed(bytes([i]) * 32) for i, party in enumerate(("bank", "shop", "tax"), 1)}
ROSTER = Roster(1, b"", tuple(Party(p, p, p, key.sign_pk) for p, key in KEYS.items()), "bank")
PLAN, SALT = b"\7" * 32, b"\1" * 32


def word(party="tax", plan=PLAN, data=b"file", salt=SALT):
    return Acknowledgement.of(data, salt, plan, KEYS[party])


def words(**changes):
    return {"shop": word("shop").to_json(), "tax": word("tax").to_json()} | changes


def test_what_all_partners_said_is_read_back():
    assert all_checked(words(), ROSTER, PLAN) == {"shop": word("shop"), "tax": word("tax")}
    assert word() == word(), "a node that is asked again says the same"


def test_a_file_that_somebody_guesses_has_another_mark():
    assert word().digest not in (word(salt=b"\2" * 32).digest, word(salt=b"").digest, word(data=b"other").digest)


BAD = {
    "nobody": {},
    "no object": [],
    "one missing": {"tax": word().to_json()},
    "one too many": words(bank=word("bank").to_json()),
    "another's signature": words(tax=word("shop").to_json()),
    "another run's": words(tax=word(plan=b"\6" * 32).to_json()),
    "another mark": words(tax=word().to_json() | {"digest": "00" * 32}),
    "a short mark": words(
        tax={"digest": "00", "signature": KEYS["tax"].sign("encoder", PLAN + b"\0").hex()},
    ),
    "no mark": words(tax={"signature": word().signature.hex()}),
    "no text": words(tax=7),
    "no hex": words(tax=word().to_json() | {"signature": "x"}),
}


@pytest.mark.parametrize("said", BAD.values(), ids=BAD.keys())
def test_any_other_word_is_refused(said, code_of):
    assert code_of(lambda: all_checked(said, ROSTER, PLAN)) == "bad_acknowledgement"
