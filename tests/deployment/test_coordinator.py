"""What a coordinator takes from whom, in its folder alone or with a SuperLink on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedprofile.cli.main import main
from fedprofile.config.compose import compose, config_hash, save
from fedprofile.coordinator.checkpoint import Checkpoint, CheckpointStore
from fedprofile.coordinator.job import Job
from fedprofile.deployment import following
from fedprofile.deployment.coordinator import FLOWER_RUN, Coordinator, Enrolled, training_state
from fedprofile.deployment.following import follow
from fedprofile.enrolment import Request, RosterSignature, read_document, write_document
from fedprofile.errors import ConfigError, DeploymentError, FedprofileError, UsageError
from fedprofile.flower import server_app
from fedprofile.flower.node_key import make_node_key
from fedprofile.flower.processes import SUPERVISOR
from fedprofile.governance.audit_coordinator import COORDINATOR
from fedprofile.governance.chain import Chain
from fedprofile.models.layout import first_shared, start_hash
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.membership import pin, pinned_roster, sign_invitation
from fedprofile.node.policy import write_policy
from fedprofile.secagg.identity import Identity
from fedprofile.types import Policy, RunPlan, Schema, Task

PARTIES = ("bank", "shop", "tax")
OVERRIDES = ("tracking=none", "secure.min_hidden=1", "fusion.min_views=1")

HOLD = """
import sys, time
from pathlib import Path
from fedprofile.flower.processes import SUPERVISOR, Processes
with Processes(Path(sys.argv[1])).hold(SUPERVISOR):
    print("x", end="", flush=True)
    time.sleep(60)
"""


def identity(name: str) -> Identity:
    return Identity.from_seed(name.encode().ljust(32, b"-"))


def request(root: Path, party: str, by: str = "", **changes: object) -> Request:
    """Signed by the key of the party's name, or of ``by``."""
    key = root / f"{by or party}.key"
    line = (key.with_name(key.name + ".pub").read_bytes() if key.exists() else make_node_key(key)).decode().strip()
    tasks = (Task("tier", "ordinal", 3),) if party == "bank" else ()
    who = identity(by or party)
    asked = Request(party, party, party, who.sign_pk, line, Schema(("a", "b"), ()), {}, version("fedprofile"), tasks)
    return replace(asked, **changes).signed(who)


@pytest.fixture
def ask(desk):
    """``ask(party, by, **changes)``: a request, beside the keys of those who are enrolled."""
    return partial(request, desk.folder.parent)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    coordinator = Coordinator.create(root / "coord", "Tests", ["localhost"], "127.0.0.1", 0, OVERRIDES)
    for party in PARTIES:
        enrol(coordinator, request(root, party))
    sign(coordinator)
    return root


@pytest.fixture
def desk(tmp_path, made):
    """A coordinator's folder with roster version 1 in force, and nothing that serves."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Coordinator(tmp_path / "coord")


def enrol(coordinator: Coordinator, document: Request | RosterSignature) -> Enrolled:
    file = Path(coordinator.folder.parent / "document.json")
    return coordinator.enrol(write_document(file, document))


def sign(coordinator: Coordinator, parties: tuple[str, ...] = PARTIES) -> None:
    roster = coordinator.proposal()
    for party in parties:
        done = enrol(coordinator, RosterSignature.of(party, roster, identity(party)))
    assert done.missing == ()


def events(desk: Coordinator) -> list[dict[str, object]]:
    """The lines of the audit log, in order."""
    return list(Chain(desk.folder / "audit.jsonl", f"audit/{COORDINATOR}"))


def test_who_takes_part_is_in_the_log_as_it_was_decided(desk, ask):
    begun, made, *requests, roster = events(desk)
    assert (begun["party"], begun["key"]) == (COORDINATOR, desk.log.key.hex())
    assert (made["event"], made["change"], made["ca"]) == ("certificate", "made", desk.link.authority.fingerprint())
    held = desk.requests()
    assert [(r["party"], r["fingerprint"]) for r in requests] == [(p, held[p].fingerprint) for p in PARTIES]
    assert (roster["version"], roster["roster"]) == (1, desk.roster().hash.hex())
    assert set(roster["parties"]) == set(PARTIES)
    assert read_document(desk.folder / "invitation.json").audit_key == desk.log.key.hex()
    desk.remove("shop")
    sign(desk)
    removed, second = events(desk)[-2:]
    assert (removed["event"], removed["party"]) == ("removed", "shop")
    assert (second["version"], sorted(second["parties"])) == (2, ["bank", "tax"])
    before = len(events(desk))
    with pytest.raises(UsageError):
        enrol(desk, ask("tax", by="thief"))
    assert len(events(desk)) == before, "what was not taken"


def test_a_folder_from_before_there_was_a_log_begins_one(desk, capsys):
    for file in desk.folder.glob("audit.*"):
        file.unlink()
    old = Coordinator(desk.folder)
    assert old.propose().missing == PARTIES
    (begun,) = events(old)
    assert read_document(desk.folder / "invitation.json").audit_key == begun["key"]
    sign(old)
    assert (old.roster().version, events(old)[-1]["version"]) == (2, 2)
    assert main(["audit", "verify", str(desk.folder), "--key", begun["key"]]) == 0
    assert COORDINATOR in capsys.readouterr().out
    assert main(["coordinator", "propose", str(desk.folder)]) == 0
    assert "Roster version 3 waits for: bank, shop, tax" in capsys.readouterr().out


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


def test_a_training_begins_from_an_earlier_one_s_weights_where_these_are_final_and_known(desk):
    def prepared(*overrides: str, **how: str) -> tuple[Path, RunPlan]:
        """Under a name of its own: two of one second would share a folder."""
        folder = desk.prepare(overrides, **how)
        folder = folder.rename(folder.with_name("-".join(overrides) or "next"))
        return folder, Job.from_json((folder / "job.json").read_text()).plan

    with desk.link.processes.hold(SUPERVISOR):
        own, kept = prepared("learning.share=none"), prepared("seed=1")
        for folder, plan in (own, kept):
            with pytest.raises(UsageError, match="is not finished"):
                desk.prepare((), start=folder.name)
            CheckpointStore(folder).save(Checkpoint(shared=first_shared(plan)))
            (folder / "outcome.json").write_text("{}")
        with pytest.raises(UsageError, match="no node knows the weights"):
            desk.prepare((), start=own[0].name)
        for nothing in ("nowhere", ""):
            with pytest.raises(UsageError, match="trainings here are called"):
                desk.prepare((), start=nothing)
        with pytest.raises(ConfigError, match="do not fit the model"):
            desk.prepare(("model.hidden=8",), start=kept[0].name)
        assert set((desk.folder / "runs").iterdir()) == {own[0], kept[0]}, "nothing is left that passes for a training"
        folder, plan = prepared(start=kept[1].hash.hex()[:12])
    weights = first_shared(kept[1])
    assert plan.start == start_hash(weights)
    begun = CheckpointStore(folder).start()
    assert {n: w.tobytes() for n, w in begun.items()} == {n: w.tobytes() for n, w in weights.items()}


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


def test_following_outlasts_a_superlink_that_is_away(desk, monkeypatch):
    folder = training(desk, FLOWER_RUN)
    end = threading.Timer(0.7, (folder / "outcome.json").write_text, ['{"summaries": []}'])
    end.start()
    follow(desk, folder, lambda *_: None)
    end.join()
    (folder / "outcome.json").unlink()
    monkeypatch.setattr(following, "AWAY_S", 0.1)
    with pytest.raises(DeploymentError, match="not running"):
        follow(desk, folder, lambda *_: None)


def test_a_training_that_is_ended_with_its_coordinator_is_told_as_stopped(desk):
    with desk.link.processes.hold(SUPERVISOR):
        folder = desk.prepare(())
    (folder / FLOWER_RUN).write_text("1")
    serving = subprocess.Popen(  # as a `coordinator start` looks from outside
        [sys.executable, "-c", HOLD, str(desk.link.processes.folder)], stdout=subprocess.PIPE
    )
    serving.stdout.read(1)
    assert desk.stop()
    serving.communicate()
    assert events(desk)[-1]["event"] == "stopped"
    assert training_state(folder)["state"] == "failed"
    with pytest.raises(FedprofileError, match="the training was stopped"):
        follow(desk, folder, lambda *_: None)


@pytest.mark.parametrize(("over", "state"), [(True, "failed"), (False, "running")])
def test_a_training_whose_process_was_killed_is_not_told_as_running(desk, monkeypatch, over, state):
    training(desk, FLOWER_RUN)
    monkeypatch.setattr(type(desk.link), "running", property(lambda _: True))
    monkeypatch.setattr(desk.link, "nodes", lambda: [], raising=False)
    monkeypatch.setattr(desk.link, "run", lambda _: SimpleNamespace(finished=over), raising=False)
    assert desk.status()["training"]["state"] == state


def test_a_resumed_training_is_told_by_its_new_run_alone(desk):
    with desk.link.processes.hold(SUPERVISOR):
        folder = desk.prepare(())
        (folder / "failure.json").write_text('{"what": "old", "mend": ""}')
        with pytest.raises(UsageError, match="no node is registered"):
            desk.submit(folder)
    plan, (run, failed) = Job.from_json((folder / "job.json").read_text()).plan, events(desk)[-2:]
    assert (run["event"], run["plan"], run["training"]) == ("run", plan.hash.hex(), folder.name)
    assert run["config"] == config_hash(desk.config(folder))
    assert (failed["event"], failed["run"], failed["code"]) == ("failed", plan.run_id.hex(), "UsageError")
    assert training_state(folder)["what"] == "no node is registered for bank, shop, tax"
    (folder / "failure.json").write_text('{"what": "old", "mend": ""}')
    with pytest.raises(DeploymentError, match="not running"):  # no new run: the last one's failure stands
        desk.submit(folder)
    assert training_state(folder)["what"] == "old"


def test_what_nobody_foresaw_is_told_by_its_kind_and_where_to_read_on(desk):
    folder = training(desk, "nodes.json")
    with pytest.raises(TypeError):
        server_app.main(None, SimpleNamespace(run_config={"job": str(folder)}))
    failed = training_state(folder)
    assert (failed["state"], failed["what"]) == ("failed", "unexpected TypeError")
    assert "superexec.log" in failed["mend"]


def test_an_update_of_fedprofile_needs_no_new_roster(desk, ask):
    (held,) = [f for f in (desk.folder / "requests").iterdir() if read_document(f).party == "shop"]
    write_document(held, ask("shop", release="0.0.9"))
    assert enrol(desk, ask("shop")).roster == desk.roster()
    assert (desk.proposal(), desk.requests()["shop"].release) == (None, version("fedprofile"))


def test_an_invitation_that_is_out_holds_the_certificates_as_they_are(desk, ask, capsys):
    enrol(desk, ask("doctor"))
    signed = RosterSignature.of("shop", desk.proposal(), identity("shop"))
    enrol(desk, signed)
    before = read_document(desk.folder / "invitation.json")
    assert main(["coordinator", "certificate", str(desk.folder), "--rotate"]) == 0
    assert "send it again" in capsys.readouterr().out
    assert (events(desk)[-1]["change"], events(desk)[-1]["ca"]) == ("rotated", desk.link.authority.fingerprint())
    after = read_document(desk.folder / "invitation.json")
    assert after == replace(before, ca=desk.link.authority.certificate.read_text()) != before
    assert desk.proposal().signatures == (("shop", signed.signature),)


def test_a_party_joins_a_federation_that_no_run_has_told_its_members_of(desk, ask, tmp_path):
    """Two versions one after the other, without a training between them: the members and each newcomer can follow."""

    def home(party: str) -> NodeHome:
        made = NodeHome.create(tmp_path / party, NodeConfig(party, party, "", "own", "simulated", approve="ask"))
        write_policy(made, Policy())
        return made

    homes = {party: home(party) for party in PARTIES}
    first = replace(read_document(desk.folder / "invitation.json"), roster=desk.roster())
    for party, member in homes.items():
        sign_invitation(member, first, identity(party))
    for newcomer in ("doctor", "taxman"):
        enrol(desk, ask(newcomer))
        homes[newcomer] = home(newcomer)
        invitation = read_document(desk.folder / "invitation.json")
        for party, member in homes.items():
            enrol(desk, sign_invitation(member, invitation, identity(party)))
    assert desk.roster().version == 3
    for member in homes.values():
        pin(member, desk.roster())
        assert pinned_roster(member) == desk.roster()
