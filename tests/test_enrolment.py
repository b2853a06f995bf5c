"""Documents of an enrolment: what their keys do not sign is refused, and their order does not matter."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations

import pytest

from fedprofile.enrolment import (
    Invitation,
    Request,
    RosterSignature,
    electors,
    next_roster,
    read_document,
    spoken,
    write_document,
)
from fedprofile.errors import UsageError
from fedprofile.secagg.identity import Identity, sign_roster, verify_roster
from fedprofile.types import Policy, Schema, Task

TASKS = (Task("tier", "ordinal", 3),)


def identity(party: str) -> Identity:
    return Identity.from_seed(party.encode().ljust(32, b"-"))


def request(party: str, role: str = "", tasks: tuple[Task, ...] = ()) -> Request:
    asked = Request(
        party,
        party,
        role or party,
        identity(party).sign_pk,
        f"ecdsa {party}",
        Schema(("a",), ("b",)),
        {"b": 2},
        "1",
        tasks,
    )
    return asked.signed(identity(party))


def requests(*parties: str) -> dict[str, Request]:
    return {p: request(p, p.rstrip("123"), TASKS if p == "bank" else ()) for p in parties}


def test_a_request_comes_back_as_it_was_written(tmp_path):
    asked = request("bank", tasks=TASKS)
    assert read_document(write_document(tmp_path / "r.json", asked)) == asked
    assert asked.verified() is asked
    assert asked.is_owner
    assert asked.fingerprint == request("bank", tasks=TASKS).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"party": "other"},
        {"org": "other"},
        {"role": "other"},
        {"flower_key": "other"},
        {"schema": Schema(("a", "c"), ("b",))},
        {"tasks": TASKS},
        {"many_rows": True},
        {"levels": {"b": 3}},
        {"release": "2"},
        {"sign_pk": identity("other").sign_pk},
        {"signature": bytes(64)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_whatever_is_changed_in_a_request_is_noticed(change):
    with pytest.raises(UsageError, match="not signed by its own key"):
        replace(request("tax"), **change).verified()


@pytest.mark.parametrize("name", ["", "Bank", "a/b", "..", "a" * 41, "1a", "a b"])
def test_a_name_is_a_word(name):
    with pytest.raises(UsageError, match="no name"):
        replace(request("tax"), party=name).signed(identity("tax")).verified()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"document": "request"}', '{"document": "x"}', '"request"'])
def test_a_file_that_is_no_document_is_named(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(UsageError, match=r"f\.json is no document"):
        read_document(tmp_path / "f.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_document(tmp_path / "absent.json")


def test_the_roster_does_not_depend_on_who_came_first():
    held = requests("bank", "shop1", "shop2", "tax")
    rosters = {next_roster(None, {p: held[p] for p in order}).hash for order in permutations(held)}
    assert len(rosters) == 1
    roster = next_roster(None, held)
    assert [p.id for p in roster.parties] == ["bank", "shop1", "shop2", "tax"]
    assert (roster.label_owner, roster.version, roster.previous) == ("bank", 1, b"")


def test_exactly_one_party_holds_the_labels():
    with pytest.raises(UsageError, match="nobody asks"):
        next_roster(None, requests("shop", "tax"))
    with pytest.raises(UsageError, match="bank, tax asks"):
        next_roster(None, requests("bank", "shop") | {"tax": request("tax", tasks=TASKS)})


def test_two_parties_with_one_key_make_no_roster():
    twin = replace(request("tax"), sign_pk=identity("shop").sign_pk)
    with pytest.raises(UsageError, match="same key"):
        next_roster(None, requests("bank", "shop") | {"tax": twin})


def test_a_version_is_signed_by_those_before_and_those_in_it():
    first = next_roster(None, requests("bank", "shop", "tax"))
    second = next_roster(first, requests("bank", "medical", "tax"))
    assert electors(first, None) == ("bank", "shop", "tax")
    assert electors(second, first) == ("bank", "shop", "tax", "medical")
    assert (second.version, second.previous) == (2, first.hash)
    verify_roster(sign_roster(second, {p: identity(p) for p in electors(second, first)}), first)


def test_an_invitation_is_known_by_all_that_it_says(tmp_path):
    roster = next_roster(None, requests("bank", "shop", "tax"))
    invitation = Invitation("f", roster, Policy(), "host:1", "pem", "ab")
    assert read_document(write_document(tmp_path / "i.json", invitation)) == invitation
    second = replace(invitation, previous=sign_roster(roster, {"tax": identity("tax")}))
    assert read_document(write_document(tmp_path / "j.json", second)) == second
    other = replace(roster, label_owner="tax")
    changes = (
        {"federation": "g"}, {"roster": other}, {"policy": Policy(clip=9.0)}, {"coordinator": "host:2"}, {"ca": "x"},
        {"fab": "cd"},
    )  # fmt: skip
    marks = {invitation.fingerprint, *(replace(invitation, **change).fingerprint for change in changes)}
    assert len(marks) == len(changes) + 1


def test_a_signature_travels(tmp_path):
    roster = next_roster(None, requests("bank", "shop", "tax"))
    signed = RosterSignature.of("tax", roster, identity("tax"))
    assert read_document(write_document(tmp_path / "s.json", signed)) == signed
    assert json.loads((tmp_path / "s.json").read_text())["document"] == "signature"


def test_a_fingerprint_is_short_enough_to_say():
    assert spoken(bytes(range(32))) == "0001-0203-0405-0607-0809"
