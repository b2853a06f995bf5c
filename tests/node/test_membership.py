"""Signing proposes, pinning decides: what a node takes as its roster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedprofile.enrolment import Invitation, Request, next_roster
from fedprofile.errors import RemoteProtocolError, UsageError
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.membership import pin, pinned_roster, sign_invitation, signed_invitation
from fedprofile.node.policy import read_common, write_policy
from fedprofile.secagg.identity import Identity, sign_roster
from fedprofile.types import Policy, Schema, Task

COMMON = Policy(clip=0.5)


def identity(party: str) -> Identity:
    return Identity.from_seed(party.encode().ljust(32, b"-"))


def roster(*parties: str, before=None):
    held = {
        p: Request(p, p, p, identity(p).sign_pk, p, Schema((), ()), {}, "1", (Task("t", "binary", 2),) * (p == "bank"))
        for p in parties
    }
    return next_roster(before, held)


def invitation(proposed, before=None) -> Invitation:
    return Invitation("f", proposed, COMMON, "localhost:1", "-----PEM", "ab", previous=before)


def signed(proposed, *parties: str):
    return sign_roster(proposed, {p: identity(p) for p in parties})


@pytest.fixture
def home(tmp_path):
    made = NodeHome.create(tmp_path / "tax", NodeConfig("tax", "tax", "", "own", "simulated", approve="ask"))
    write_policy(made, Policy())
    return made


def sign(home, proposed, before=None):
    return sign_invitation(home, invitation(proposed, before), identity("tax"))


def everybody(proposed):
    return signed(proposed, *(p.id for p in proposed.parties))


def test_a_roster_that_all_signed_is_pinned_with_the_federations_policy(home):
    first = roster("bank", "shop", "tax")
    assert sign(home, first).roster == first.hash
    assert pinned_roster(home) is None
    whole = signed(first, "bank", "shop", "tax")
    pin(home, whole)
    assert pinned_roster(home) == whole
    assert read_common(home) == COMMON
    assert home.config.label_owner == "bank"
    assert (home.path / "ca.crt").read_text() == "-----PEM"
    pin(home, whole)  # again changes nothing


def test_a_roster_that_this_node_did_not_sign_is_refused(home):
    other = signed(roster("bank", "shop", "tax"), "bank", "shop", "tax")
    with pytest.raises(RemoteProtocolError, match="has not signed"):
        pin(home, other)
    sign(home, roster("bank", "medical", "tax"))
    with pytest.raises(RemoteProtocolError, match="has not signed"):
        pin(home, other)
    assert pinned_roster(home) is None


@pytest.mark.parametrize("missing", ["bank", "shop", "tax"])
def test_one_missing_signature_is_enough_to_refuse(home, missing):
    first = roster("bank", "shop", "tax")
    sign(home, first)
    with pytest.raises(RemoteProtocolError, match="unsigned_roster"):
        pin(home, signed(first, *({"bank", "shop", "tax"} - {missing})))
    forged = replace(signed(first, "bank", "shop", "tax"), signatures=(("bank", bytes(64)),))
    with pytest.raises(RemoteProtocolError):
        pin(home, forged)


def test_a_newcomer_signs_as_well(home):
    first = roster("bank", "shop", "tax")
    sign(home, first)
    pin(home, signed(first, "bank", "shop", "tax"))
    second = roster("bank", "medical", "shop", "tax", before=first)
    sign(home, second)
    with pytest.raises(RemoteProtocolError, match="medical"):
        pin(home, signed(second, "bank", "shop", "tax"))
    pin(home, signed(second, "bank", "medical", "shop", "tax"))
    assert pinned_roster(home).version == 2


def test_rosters_never_go_back_nor_skip(home):
    first = roster("bank", "shop", "tax")
    second = roster("bank", "medical", "shop", "tax", before=first)
    with pytest.raises(UsageError, match="has pinned none"):
        sign(home, second)
    sign(home, first)
    pin(home, signed(first, "bank", "shop", "tax"))
    for wrong in (first, roster("bank", "medical", "tax"), replace(second, version=3)):
        with pytest.raises(UsageError, match="has pinned version 1"):
            sign(home, wrong)


def test_a_version_that_no_run_has_brought_is_followed_all_the_same(home):
    first = everybody(roster("bank", "shop", "tax"))
    second = everybody(roster("bank", "medical", "shop", "tax", before=first))
    third = everybody(roster("bank", "medical", "tax", before=second))
    sign(home, first)
    sign(home, second, first)
    assert pinned_roster(home) == first
    with pytest.raises(UsageError, match="has pinned version 1"):
        sign(home, third)
    sign(home, third, second)
    assert pinned_roster(home) == second
    pin(home, sign_roster(third, {"shop": identity("shop")}))
    assert pinned_roster(home).version == 3


def test_no_version_is_passed_over_that_this_node_did_not_sign(home):
    first = everybody(roster("bank", "shop", "tax"))
    second = roster("bank", "medical", "shop", "tax", before=first)
    third = roster("bank", "medical", "tax", before=second)
    sign(home, first)
    with pytest.raises(UsageError, match=r"version 2 is in force.*has not signed"):
        sign(home, third, everybody(second))
    sign(home, second, first)
    for party in ("bank", "medical", "shop", "tax"):
        others = {"bank", "medical", "shop", "tax"} - {party}
        with pytest.raises(UsageError, match=rf"version 2 is in force.*{party}"):
            sign(home, third, signed(second, *others))
    twin = everybody(roster("bank", "shop", "tax", before=replace(first, label_owner="tax")))
    with pytest.raises(UsageError, match="has not signed"):
        sign(home, roster("bank", "tax", before=twin), twin)
    assert pinned_roster(home) == first


def test_a_newcomer_starts_from_the_version_in_force(home):
    first = everybody(roster("bank", "shop"))
    second = roster("bank", "shop", "tax", before=first)
    with pytest.raises(UsageError, match=r"in force.*not signed by shop"):
        sign(home, second, signed(roster("bank", "shop"), "bank"))
    forged = replace(first, signatures=tuple((party, bytes(64)) for party, _ in first.signatures))
    with pytest.raises(UsageError, match=r"in force.*bad_signature"):
        sign(home, second, forged)
    sign(home, second, first)
    assert pinned_roster(home) is None
    third = everybody(roster("bank", "medical", "shop", "tax", before=second))
    sign(home, third, everybody(second))
    assert pinned_roster(home) == everybody(second)
    pin(home, third)
    assert pinned_roster(home).version == 3


def test_a_home_made_anew_for_a_member_takes_nobodys_word(home):
    first = everybody(roster("bank", "shop", "tax"))
    with pytest.raises(UsageError, match="has not signed"):
        sign(home, roster("bank", "medical", "shop", "tax", before=first), first)


def test_an_invitation_with_another_key_for_this_party_is_refused(home):
    with pytest.raises(UsageError, match="another key or role"):
        sign_invitation(home, invitation(roster("bank", "shop", "tax")), identity("somebody else"))
    with pytest.raises(UsageError, match="not in the invitation"):
        sign(home, roster("bank", "medical", "shop"))
    with pytest.raises(UsageError, match="signed no invitation"):
        signed_invitation(home)


def test_a_member_signs_the_roster_that_leaves_it_out(home):
    first = roster("bank", "shop", "tax")
    sign(home, first)
    pin(home, signed(first, "bank", "shop", "tax"))
    without = roster("bank", "medical", "shop", before=first)
    assert sign(home, without).party == "tax"
