"""A node's own commands on an empty home: what they refuse, and what they leave as it was."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from importlib.metadata import version

import pytest
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import Message, Metadata

from fedprofile.cli.main import main
from fedprofile.coordinator.ca import make_ca
from fedprofile.deployment.health import FILE, Health, HealthServer
from fedprofile.deployment.node import (
    change_policy,
    identity_of,
    leave,
    make_node,
    pause,
    read_request,
    resident,
    rotate,
)
from fedprofile.enrolment import Invitation, write_document
from fedprofile.errors import DataError, DeploymentError, UsageError
from fedprofile.flower.fleet import Delivery, Stopped, refusal
from fedprofile.flower.node_key import load_node_key
from fedprofile.node.audit import log_of
from fedprofile.node.home import NodeHome
from fedprofile.node.membership import CA, SIGNED, sign_invitation
from fedprofile.node.plans import AskedPlan, keep
from fedprofile.node.policy import COMMON, read_policy, write_json
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


def wait_for(what, seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def join(home: NodeHome, *, named: bool = True) -> None:
    """As after ``sign-roster``; nobody listens where it dials."""
    signed = invitation(home, "Bank")
    parties = signed.roster.parties if named else signed.roster.parties[:1]
    changed = replace(signed, roster=replace(signed.roster, parties=parties), coordinator="127.0.0.1:1")
    write_document(home.path / SIGNED, changed)
    (home.path / CA).write_bytes(make_ca("f").certificate)


def test_who_left_sends_nothing_more_and_no_message_in_work_is_pulled_apart(home):
    join(home)
    running = resident(home)
    assert running._may_send()
    join(home, named=False)
    home.write("plan.json", b"{}")
    leaving = threading.Thread(target=leave, args=(home,))
    with home.lock():
        leaving.start()
        leaving.join(0.3)
        assert home.read("plan.json"), "a message is in work"
        assert not running._may_send(), "its reply does not leave"
    leaving.join(10)
    assert home.read("plan.json") is None
    assert list(log_of(home).chain)[-1]["event"] == "left"


def test_a_node_runs_once(home):
    join(home)
    first, second, beside = resident(home), resident(home), HealthServer(Health(home, None, None))
    thread = threading.Thread(target=first.run)
    thread.start()
    try:
        wait_for(lambda: first.status().trouble.startswith("Connect"))
        with pytest.raises(UsageError, match="runs already"):
            second.run(beside)
        assert not (home.path / FILE).exists(), "the first one's address stays"
    finally:
        first.stop()
        thread.join(10)
        beside._socket.close()
    second.stop()
    second.run()


def test_a_pause_holds_a_reply_that_waits_for_the_coordinator(home):
    join(home)
    node, stopped = resident(home), []
    found = Message(metadata=Metadata(run_id=7, message_type="query"))
    found.content.SetInParent()
    delivery = Delivery(PullMessagesResponse(messages_list=[found]).SerializeToString())

    def push() -> None:
        try:
            node._fleet.push(delivery, refusal(1, "late", delivery.head), 0.1)
        except Stopped as error:
            stopped.append(str(error))

    thread = threading.Thread(target=push)
    node._fleet._joined = True
    thread.start()
    wait_for(lambda: node.status().trouble.startswith("Connect"))
    pause(home, True)
    wait_for(lambda: node.status().paused)
    node.stop()
    thread.join(10)
    assert stopped == ["the reply was not allowed to leave"]


def test_a_message_that_fails_is_dropped_and_does_not_fail_at_the_next_start(home, monkeypatch, caplog):
    join(home)
    node = resident(home)
    found = PullMessagesResponse(messages_list=[Message(metadata=Metadata(run_id=7, message_type="query"))])
    noted = home.path / "flower" / "inflight.bin"
    noted.write_bytes(found.SerializeToString())
    assert Delivery.load(noted.read_bytes()) is None
    with pytest.raises(DeploymentError, match="malformed"):
        node._fleet.fetch(Delivery(noted.read_bytes()))

    def fails(_: int) -> None:
        raise ValueError("a customer's id")

    monkeypatch.setattr(node._fleet, "run", fails)
    node._handle(Delivery(noted.read_bytes()))
    assert node.status().dropped == 1
    assert not noted.exists()
    assert "ValueError" in caplog.text
    assert "customer" not in caplog.text


def test_an_old_node_asks_with_the_release_that_is_installed(home):
    write_document(home.path / "request.json", replace(read_request(home), release="0.0.1").signed(identity_of(home)))
    assert rotate(home).verified().release == version("fedprofile")


@pytest.mark.parametrize("text", [None, "format: 1\n"])
def test_a_contract_that_is_wrong_leaves_no_folder(tmp_path, text):
    contract = tmp_path / "contract.yaml"
    if text is not None:
        contract.write_text(text)
    with pytest.raises(DataError):
        make_node(tmp_path / "tax", "tax", "tax", "Tax", contract, "simulated")
    assert not (tmp_path / "tax").exists()


@pytest.mark.parametrize(
    "change", ["clip=NaN", "clip=Infinity", f"clip=1{'0' * 400}", 'rings=["a"]', "rings=[8]", "tasks=[1]"]
)
def test_a_limit_that_is_none_is_not_signed(home, change):
    with pytest.raises(UsageError, match="takes another value"):
        change_policy(home, [change])
    assert read_policy(home).clip == 1e6


def test_plans_name_the_uploads_that_are_allowed_now(home, world, capsys):
    write_json(home.path / COMMON, Policy(max_uploads=123).to_json())
    keep(home, AskedPlan(world.job.plan, "strict", "2026-01-01"))
    assert main(["node", "plans", str(home.path), "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["plans"]
    assert shown["uploads_allowed"] == 123
