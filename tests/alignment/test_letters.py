from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.alignment.letters import OVERHEAD, TYPES, Letter, SpineFact, body_size, size_class
from fedprofile.secagg.identity import Identity
from fedprofile.types import Party

KEYS = {name: Identity.from_seed(name.encode() * 8) for name in ("bank", "shop", "task")}
BANK, SHOP, TAX = (Party(name, name, name, key.sign_pk) for name, key in KEYS.items())
PLAN = bytes(range(32))
LETTER = Letter("points", 1, PLAN, SHOP, BANK, 288, b"body of the letter")
FACT = SpineFact(640, b"\7" * 32)


def read(data, type_="points", suite=1, plan=PLAN, sender=SHOP, receiver=BANK):
    return Letter.decode(data, type_, suite, plan, sender, receiver)


@given(st.sampled_from(TYPES), st.integers(0, 2**20), st.binary(max_size=40))
def test_a_letter_survives_its_encoding(type_, size, body):
    letter = replace(LETTER, type=type_, size=size_class(size), body=body)
    data = letter.encode(KEYS["shop"])
    assert read(data, type_) == letter
    assert len(data) == OVERHEAD + len(body)


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        ({"type_": "claims"}, "wrong_letter"), ({"suite": 2}, "wrong_letter"), ({"plan": bytes(32)}, "wrong_run"),
        ({"sender": TAX}, "wrong_party"), ({"receiver": TAX}, "wrong_party"),
        ({"sender": replace(SHOP, sign_pk=TAX.sign_pk)}, "bad_signature"),
    ],
)  # fmt: skip
def test_a_letter_that_was_not_due_is_refused(code_of, expected, code):
    assert code_of(lambda: read(LETTER.encode(KEYS["shop"]), **expected)) == code


@given(st.data())
def test_no_byte_of_a_letter_can_be_changed(data):
    """The signature covers all of it: type, run, parties, size and body."""
    changed = bytearray(LETTER.encode(KEYS["shop"]))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Exception, match=r"bad_letter|wrong_letter|wrong_run|wrong_party|bad_signature"):
        read(bytes(changed))


@pytest.mark.parametrize("data", [b"", b"fpa1", LETTER.encode(KEYS["shop"])[: OVERHEAD - 1], bytes(300)])
def test_what_is_no_letter_is_refused(code_of, data):
    assert code_of(lambda: read(data)) == "bad_letter"


@pytest.mark.parametrize("size", [0, 1, 255, 257, 289, 2**32 - 1])
def test_a_size_that_tells_more_than_its_class_is_refused(code_of, size):
    assert code_of(lambda: read(replace(LETTER, size=size).encode(KEYS["shop"]))) == "bad_size"


@given(st.integers(0, 2**24))
def test_padding_is_at_most_an_eighth_and_idempotent(n):
    padded = size_class(n)
    assert n <= padded <= max(256, n + n // 8)
    assert size_class(padded) == padded
    assert size_class(n + 1) >= padded


def test_there_are_eight_classes_an_octave():
    assert sorted({size_class(n) for n in range(1025, 2049)}) == list(range(1152, 2049, 128))
    assert [size_class(n) for n in (0, 1, 256, 257, 600, 4562)] == [256, 256, 256, 288, 640, 4608]


def test_sizes_of_bodies():
    sizes = [body_size(t, 288, 643) for t in TYPES]
    assert sizes == [288 * 32, 288 * 32 + 643 * 16, 643 * 16, 81, 16 + 288 * 32]


def signed(fact=FACT, by="bank", plan=PLAN):
    return KEYS[by].sign("spine", fact.signed_bytes(plan))


def test_a_spine_is_what_the_label_owner_signed(code_of):
    assert SpineFact.verified(FACT.to_body(), signed(), PLAN, BANK) == FACT
    refused = [
        (FACT, signed(by="shop"), PLAN), (replace(FACT, size=704), signed(), PLAN),
        (replace(FACT, hash=bytes(32)), signed(), PLAN), (FACT, signed(), bytes(32)), (FACT, b"", PLAN),
    ]  # fmt: skip
    for fact, signature, plan in refused:
        assert (
            code_of(lambda f=fact, s=signature, p=plan: SpineFact.verified(f.to_body(), s, p, BANK)) == "bad_signature"
        )


@pytest.mark.parametrize(
    "body",
    [
        {}, {"size": "640", "hash": "07" * 32}, {"size": True, "hash": "07" * 32}, {"size": 0, "hash": "07" * 32},
        {"size": 2**32, "hash": "07" * 32}, {"size": 640, "hash": "07" * 31}, {"size": 640, "hash": "zz" * 32},
        {"size": 640, "hash": 7},
    ],
)  # fmt: skip
def test_what_is_no_spine_is_refused(code_of, body):
    assert code_of(lambda: SpineFact.verified(body, signed(), PLAN, BANK)) == "bad_spine"


def test_the_repr_shows_no_body():
    assert "body of" not in repr(LETTER)
