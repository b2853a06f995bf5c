"""What a coordinator takes from whom, in its folder alone or with a SuperLink on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from fedprofile.config.compose import compose, save
from fedprofile.deployment.coordinator import Coordinator, Enrolled
from fedprofile.enrolment import Request, RosterSignature, write_document
from fedprofile.errors import DeploymentError, UsageError
from fedprofile.flower.node_key import make_node_key
from fedprofile.secagg.identity import Identity
from fedprofile.types import Schema, Task

PARTIES = ("bank", "shop", "tax")
OVERRIDES = ("tracking=none", "secure.min_hidden=1", "fusion.min_views=1")


def identity(name: str) -> Identity:
    return Identity.from_seed(name.encode().ljust(32, b"-"))


@pytest.fixture
def ask(tmp_path):
    """``ask(party, **changes)``: a request, signed by the key of that name, or of ``by``."""

    def made(party: str, by: str = "", **changes: object) -> Request:
        key = tmp_path / f"{by or party}.key"
        line = (key.with_name(key.name + ".pub").read_bytes() if key.exists() else make_node_key(key)).decode().strip()
        tasks = (Task("tier", "ordinal", 3),) if party == "bank" else ()
        who = identity(by or party)
        asked = Request(
            party, party, party, who.sign_pk, line, Schema(("a", "b"), ()), {}, version("fedprofile"), tasks
        )
        return replace(asked, **changes).signed(who)

    return made


@pytest.fixture
def desk(tmp_path, ask):
    """``enrol(document)`` at a coordinator whose roster version 1 is in force."""
    coordinator = Coordinator.create(tmp_path / "coord", "Tests", ["localhost"], "127.0.0.1", 0, OVERRIDES)
    for party in PARTIES:
        enrol(coordinator, ask(party))
    sign(coordinator)
    return coordinator


def enrol(coordinator: Coordinator, document: Request | RosterSignature) -> Enrolled:
    file = Path(coordinator.folder.parent / "document.json")
    return coordinator.enrol(write_document(file, document))


def sign(coordinator: Coordinator, parties: tuple[str, ...] = PARTIES) -> None:
    roster = coordinator.proposal()
    for party in parties:
        done = enrol(coordinator, RosterSignature.of(party, roster, identity(party)))
    assert done.missing == ()


def test_a_name_of_the_roster_is_its_keys_alone(desk, ask):
    before = desk.requests()
    with pytest.raises(UsageError, match="'shop' is in the roster with another identity"):
        enrol(desk, ask("shop", by="thief"))
    assert (desk.requests(), desk.proposal()) == (before, None)
    assert enrol(desk, ask("shop", flower_key=ask("new").flower_key)).roster == desk.roster()


def test_a_key_that_superlink_would_not_take_is_not_enrolled(desk, ask):
    before, retired = desk.requests(), ask("old").flower_key
    (desk.folder / "retired.json").write_text(json.dumps([retired]))
    for line, why in (
        ("garbage", "no Flower key"),
        (before["shop"].flower_key + " a comment", "no Flower key"),
        (before["tax"].flower_key, "another party"),
        (retired, "was retired"),
    ):
        with pytest.raises(UsageError, match=why):
            enrol(desk, ask("shop", flower_key=line))
    assert desk.requests() == before


def test_a_party_that_cannot_be_let_in_keeps_nobody_else_out(desk):
    with pytest.raises(DeploymentError, match=r"bank: .*shop: .*tax: "):  # nothing serves, so all three fail
        desk.admit()


def test_a_roster_with_a_removed_member_trains_no_more(desk):
    proposed = desk.remove("shop")
    assert proposed.missing == ("bank", "shop", "tax")
    with pytest.raises(UsageError, match="still names shop"):
        desk.prepare(())
    sign(desk)
    with pytest.raises(DeploymentError, match="not running"):  # and nothing is left that passes for a training
        desk.prepare(())
    assert not (desk.folder / "runs").exists()


def training(desk: Coordinator, *files: str) -> Path:
    """A training's folder as far as these files tell."""
    folder = desk.folder / "runs" / "one"
    folder.mkdir(parents=True)
    save(compose(OVERRIDES), folder)
    for name in ("job.json", *files):
        (folder / name).write_text({"outcome.json": '{"summaries": []}'}.get(name, "1"))
    return folder


def test_what_never_began_is_not_stopped_and_what_is_finished_does_not_go_on(desk):
    folder = training(desk, "outcome.json")
    with pytest.raises(UsageError, match="never began"):
        desk.stop_training()
    with pytest.raises(UsageError, match="is finished"):
        desk.submit(folder)
