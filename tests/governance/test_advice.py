"""A recommendation counts for one champion of one registry, by the key of a live validator or operator, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from office import NOW, YEAR, A, B, C, Office, key

from fedprofile.errors import DataError
from fedprofile.governance.advice import Advice
from fedprofile.governance.promotion import Refused


@pytest.fixture
def office() -> Office:
    made = Office()
    made.champion(A)
    return made


def advice(office: Office, who: str = "chen", signer: str = "", **changes) -> Advice:
    """Signed as it stands; ``changes`` are made before the signature."""
    made = Advice(office.state.registry, A, "e" * 64, "d" * 64, ("input_psi/age: 0.4, at most 0.25 is asked",), NOW)
    return replace(made, **changes).signed(who, key(signer or who))


def why(office: Office, given: Advice) -> str:
    return given.refusal(office.people, office.state.registry, office.state.champion, office.now)


def test_a_validator_or_operator_signs_and_it_survives_json(office):
    for who in ("wang", "chen", "qian"):
        given = advice(office, who)
        assert why(office, given) == ""
        assert Advice.from_json(json.loads(json.dumps(given.to_json()))) == given


FORGED = {
    "no validator or operator": [{"who": "li"}, {"who": "zhao"}, {"who": "sun"}],
    "not signed by this person's key": [{"signer": "wang"}, {"signer": "root"}],
    "no such person": [{"who": "eve"}, {"who": "root"}],
    "of another registry": [{"registry": B}],
    "about another than today's champion": [{"champion": B}],
    "not made yet": [{"made": NOW + 1}],
}


@pytest.mark.parametrize("said", FORGED)
def test_nobody_else_s_word_counts(office, said):
    for changes in FORGED[said]:
        assert said in why(office, advice(office, **changes)).replace("the person is ", "")


CHANGED = {"registry": B, "champion": B, "evidence": B, "table": B, "reasons": (), "made": 1, "person": "wang"}


@pytest.mark.parametrize("field", CHANGED)
def test_nothing_in_it_can_be_altered(office, field):
    altered = replace(advice(office), **{field: CHANGED[field]})
    assert why(office, altered) == "not signed by this person's key"


def test_who_left_or_never_signed_does_not_count(office):
    given = advice(office)
    assert why(office, replace(given, signature=b"")) == "nobody signed it"
    assert "signed" in why(office, replace(given, signature=bytes(64)))
    office.now = NOW + YEAR
    assert "no longer valid" in why(office, given)
    office.now = NOW + 1
    office.revoke("chen")
    assert "revoked" in why(office, given)


@pytest.mark.parametrize("raw", [[], {}, {"registry": 1}, None])
def test_what_is_no_recommendation_is_refused(raw):
    with pytest.raises(DataError, match="not of this form"):
        Advice.from_json(raw)


def test_half_a_character_is_refused_and_not_a_crash(office):
    with pytest.raises(DataError, match="not of this form"):
        Advice.from_json({**advice(office).to_json(), "reasons": ["\ud800"]})


def test_the_log_holds_what_a_retraining_followed_and_every_reader_checks_it(office):
    office.gate(B, because=advice(office).to_json())
    assert office.replayed() == office.state
    with pytest.raises(Refused, match="by this person's key"):
        office.gate(C, because=advice(office, signer="li").to_json())
    with pytest.raises(Refused, match="another than today's champion"):
        office.gate(C, because=advice(office, champion=B).to_json())
    record = json.loads(office.lines[-1])["record"]
    office.force({**record, "because": advice(office, signer="li").to_json()}, "wang")
    with pytest.raises(DataError, match="does not count"):
        office.replayed()
