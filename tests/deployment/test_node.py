"""A node's own commands on an empty home: what they refuse, and what they leave as it was."""

from __future__ import annotations

import pytest

from fedprofile.cli.main import main
from fedprofile.deployment.node import change_policy, identity_of, make_node, rotate
from fedprofile.enrolment import Invitation, write_document
from fedprofile.errors import UsageError
from fedprofile.flower.node_key import load_node_key
from fedprofile.node.home import NodeHome
from fedprofile.node.membership import sign_invitation
from fedprofile.types import Party, Policy, Roster


@pytest.fixture
def home(tmp_path):
    make_node(tmp_path / "tax", "tax", "tax", "Tax", None, "simulated")
    return NodeHome(tmp_path / "tax")


def test_a_rotation_that_fails_keeps_the_registered_key(tmp_path, monkeypatch):
    words = tmp_path / "words"
    words.write_text("the tax office's own words")
    make_node(tmp_path / "tax", "tax", "tax", "Tax", None, "simulated", b"the tax office's own words")
    before = {file.name: file.read_bytes() for file in (tmp_path / "tax").glob("*") if file.is_file()}
    monkeypatch.delenv("FEDPROFILE_PASSPHRASE_FILE", raising=False)
    with pytest.raises(UsageError):
        rotate(NodeHome(tmp_path / "tax"))
    assert {file.name: file.read_bytes() for file in (tmp_path / "tax").glob("*") if file.is_file()} == before
    monkeypatch.setenv("FEDPROFILE_PASSPHRASE_FILE", str(words))
    rotate(NodeHome(tmp_path / "tax"))
    load_node_key(tmp_path / "tax" / "flower.key", b"the tax office's own words")
    assert (tmp_path / "tax" / "old-flower.key").read_bytes() == before["flower.key"]


def test_a_second_rotation_does_not_overwrite_the_key_that_is_kept(home):
    first = (home.path / "flower.key").read_bytes()
    request = rotate(home)
    assert (home.path / "flower.key.pub").read_text().strip() == request.flower_key
    with pytest.raises(UsageError, match="is still there"):
        rotate(home)
    assert (home.path / "old-flower.key").read_bytes() == first
    for file in home.path.glob("old-*"):
        file.unlink()
    assert rotate(home).flower_key != request.flower_key


def invitation(home: NodeHome, org: str, role: str = "tax") -> Invitation:
    own = Party("tax", "Tax", role, identity_of(home).sign_pk)
    parties = (Party("bank", org, "bank", bytes(32)), own)
    policy = Policy(max_uploads=123, tasks=("tier\x1b[2J",))
    return Invitation("F\x1b[2K", Roster(1, b"", parties, "bank"), policy, "here\x1b[1A:1", "-----PEM", "ab")


def test_an_invitation_cannot_steer_the_terminal_and_shows_its_limits(home, monkeypatch, capsys, tmp_path):
    write_document(tmp_path / "invitation.json", invitation(home, "Bank\x1b[2K\x1b[1A"))
    change_policy(home, ["max_uploads=77"])
    monkeypatch.setattr("builtins.input", lambda _: "no")
    assert main(["node", "sign-roster", str(home.path), str(tmp_path / "invitation.json")]) == 2
    shown = capsys.readouterr().out
    assert "Bank" in shown
    assert "\x1b" not in shown
    assert ["max_uploads", "123", "77"] in [line.split() for line in shown.splitlines()]


def test_a_name_that_is_none_is_not_signed(home):
    with pytest.raises(UsageError, match="what is no name"):
        sign_invitation(home, invitation(home, "Bank", "tax\x1b[2K"), identity_of(home))
