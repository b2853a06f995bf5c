"""As their users type it: a coordinator and six nodes on loopback, from empty folders to a fused model.

Three of them are shops, which share an encoder, so that a role's sum is deployed too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from fedprofile.cli.main import main
from fedprofile.coordinator.job import Job
from fedprofile.data.example import example
from fedprofile.deployment.node import identity_of, read_request
from fedprofile.enrolment import write_document
from fedprofile.models.layout import first_shared, start_hash
from fedprofile.node.audit import log_of
from fedprofile.node.home import NodeHome
from fedprofile.registry.bundle import open_bundle

SHOPS = ("shop-1", "shop-2", "shop-3")
PARTIES = ("bank", "medical", *SHOPS, "tax")
ROLES = {p: "ecommerce" if p in SHOPS else p for p in PARTIES}
OVERRIDES = ("tracking=none", "privacy.min_release=30")
QUICK = ("learning.rounds=2", "learning.steps=3", "learning.trees=never", "model.hidden=16", "model.profile=8")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["fedprofile.flower.resident", "fedprofile.flower.client_app", "fedprofile.models.learner"]
)


def _command(words: list[str], log: Path) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.exit(main(words))


class Desk:
    """A folder in which commands are typed; what runs in the foreground runs in a process of its own."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.running: dict[str, multiprocessing.process.BaseProcess] = {}

    def __call__(self, *words: object, code: int = 0) -> dict:
        self._capsys.readouterr()
        got = main([*map(str, words), "--json"])
        said = self._capsys.readouterr()
        assert got == code, said.err
        return json.loads(said.out) if said.out else {"error": said.err}

    def background(self, name: str, *words: object) -> None:
        self.running[name] = FORKS.Process(target=_command, args=([*map(str, words)], self.root / f"{name}.log"))
        self.running[name].start()

    def log(self, name: str) -> str:
        file = self.root / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def until(self, what, seconds: float = 300) -> None:
        give_up = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < give_up, {n: self.log(n)[-1500:] for n in self.running}
            time.sleep(0.1)

    def close(self) -> None:
        for process in reversed(self.running.values()):
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGTERM)
        for process in self.running.values():
            process.join(40)
            process.kill()


@pytest.fixture
def desk(tmp_path, capsys, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    there = Desk(tmp_path, capsys)
    yield there
    there.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tables(root: Path) -> None:
    """Each party's own table, its contract and where the table lies; the bank's labels."""
    federation = example(("bank", "ecommerce", "medical", "tax"))
    for party, role in ROLES.items():
        table = federation.tables[role]
        if party in SHOPS:
            table = table.take(np.arange(len(table)) % len(SHOPS) == SHOPS.index(party))
        columns = {"id": table.ids.tolist(), **{n: v.tolist() for n, v in table.columns.items()}}
        pl.DataFrame(columns, strict=False).fill_nan(None).write_csv(root / f"{party}.csv")
        kind = {n: "category" if n in table.categorical else "number" for n in table.columns}
        contract = {
            "version": 1, "role": role, "purpose": "customer tiering and product propensity", "id": {"name": "id"},
            "columns": {n: {"type": k, "missing": 1, "grade": 3, "class": "C2"} for n, k in kind.items()},
            "limits": {"min_rows": 100},
        }  # fmt: skip
        (root / f"{party}.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
    labels = {t: [None if x < 0 else int(x) for x in v] for t, v in federation.labels.values.items()}
    pl.DataFrame({"id": federation.labels.ids.tolist(), **labels}).write_csv(root / "labels.csv")


@pytest.fixture(scope="module", autouse=True)
def passphrase(tmp_path_factory):
    """The tax office's keys are encrypted; whoever starts its node says where the passphrase is."""
    file = tmp_path_factory.mktemp("words") / "passphrase"
    file.write_text("the tax office's own words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDPROFILE_PASSPHRASE_FILE", str(file))
        yield file


@pytest.fixture(scope="module")
def made(tmp_path_factory, passphrase):
    """Four nodes with their tables frozen and the bank's labels given; made once, copied by every test."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_nodes(root)
    return root


def typed(*words: object) -> None:
    assert main([*map(str, words), "--json"]) == 0


def make_nodes(root: Path) -> None:
    tables(root)
    for party in PARTIES:
        who = ("--party", party, "--role", ROLES[party], "--contract", f"{party}.yaml", "--consent", "simulated")
        typed("node", "init", party, *who, *(["--encrypt"] if party == "tax" else []))
        (root / party / "source.yaml").write_text(f"csv: {root / party}.csv\n")
        typed("node", "map", party, "--suggest")
        typed("node", "check", party, "--freeze")
    typed("node", "labels", "bank", "labels.csv", "--task", "tier=ordinal", "--task", "invest=binary")


def enrol(desk: Desk, *overrides: str) -> None:
    desk("coordinator", "init", "coord", "--name", "Tests", "--dial", "localhost", "--port", free_port(), *overrides)
    for party in PARTIES:
        asked = desk("coordinator", "enrol", "coord", f"{party}/request.json")["enrolled"][0]
        assert (asked["party"], len(asked["fingerprint"])) == (party, 24)
    signed = [desk("node", "sign-roster", p, "coord/invitation.json", "--yes")["signature"] for p in PARTIES]
    last = desk("coordinator", "enrol", "coord", *signed)["enrolled"][-1]
    assert (last["roster"], last["missing"]) == (1, [])


def pinned_key(desk: Desk, party: str) -> str:
    """The key of the coordinator's log, as the party's node has it."""
    return str(json.loads((desk.root / party / "invitation.json").read_text())["audit_key"])


def shared(job: Path) -> dict[str, np.ndarray]:
    from fedprofile.coordinator.checkpoint import CheckpointStore

    return CheckpointStore(job).load().shared


def in_process(desk: Desk, job: Path) -> dict[str, np.ndarray]:
    """The same plan, the same homes as they were before the training, in one process."""
    from fedprofile.flower import client_app, server_app
    from fedprofile.flower.inprocess import run_in_process
    from fedprofile.node.home import NodeHome

    folder = desk.root / "twin"
    folder.mkdir()
    for name in ("job.json", "audit_folder"):  # into the same log: the copied homes have seen nothing of it
        shutil.copy(job / name, folder)
    homes = {p: desk.root / "before" / p for p in PARTIES}
    for home in homes.values():
        NodeHome(home).configure(approve="auto")
    run_in_process(server_app.app, client_app.app, homes, folder)
    client_app.forget(list(homes.values()))
    return shared(folder)


def test_from_empty_folders_to_a_fused_model(desk):
    enrol(desk, *OVERRIDES)
    for party in PARTIES:
        shutil.copytree(desk.root / party, desk.root / "before" / party)
    desk.background("coord", "coordinator", "start", "coord")
    desk.until(lambda: "Serving Tests" in desk.log("coord"))
    for party in PARTIES:
        desk.background(party, "node", "start", party)
    desk.background("train", "coordinator", "run", "coord", *QUICK)
    desk.until(lambda: "waiting for approval" in desk.log("train"))
    assert {n["status"] for n in desk("coordinator", "status", "coord")["nodes"]} == {"online"}

    # no row is read before everybody has said yes, and a paused node says nothing at all
    plans = {p: desk("node", "plans", p)["plans"] for p in PARTIES}
    assert {p: len(found) for p, found in plans.items()} == dict.fromkeys(PARTIES, 1)
    assert plans["tax"][0]["your_columns"][0] == "declared_income_cny"
    assert not any((desk.root / p / "run" / "plan.json").exists() for p in PARTIES)
    desk("node", "pause", "tax")
    for party in PARTIES:
        desk("node", "approve", party, plans[party][0]["id"], *(["--runs", 3] if party == "tax" else []))
    (standing,) = desk("node", "plans", "tax")["plans"]
    assert (standing["decision"], standing["runs_left"]) == ("approved", 2)
    desk.until(lambda: desk("coordinator", "status", "coord")["training"].get("waiting") is not None)
    time.sleep(1.0)
    assert desk("coordinator", "status", "coord")["training"]["stage"] == "approve", "tax has not answered"
    desk("node", "resume", "tax")

    desk.until(lambda: not desk.running["train"].is_alive())
    assert "is finished" in desk.log("train"), desk.log("train") + desk.log("coord")
    (job,) = (desk.root / "coord" / "runs").iterdir()
    status = desk("coordinator", "status", "coord")
    assert status["training"] == {"name": job.name, "state": "finished", "rounds": 2}
    done = desk("node", "conclude", "bank", "--out", "model")
    assert set(done["tasks"]) == {"tier", "invest"}
    held = json.loads((desk.root / "bank" / "intake.json").read_text())
    assert done["quality"] == held["quality"]["figure"] > 0
    assert done["tasks"]["tier"]["models"]["pooled_gbdt"] is None
    assert "only a simulation" in done["tasks"]["tier"]["reasons"]["pooled_gbdt"]
    assert desk("score", "model/bundle", "bank.csv", "scores.csv")["rows"] == 600
    assert (desk.root / "scores.csv").read_text().startswith("id,")
    again = desk("bundle", "reproduce", "model/bundle", "--home", "bank", "--out", "again")
    assert again["identical"]
    assert not again["notes"], "the encoders were compared"
    meta = open_bundle(desk.root / "model" / "bundle").meta
    for party, word in meta["encoders"].items():
        (kept,) = desk("node", "encoders", party)["runs"]
        assert (kept["digest"], kept["as_signed"]) == (word["digest"], True)
    assert "no training has ended" in desk("node", "conclude", "tax", "--out", "m2", code=2)["error"]

    for party in PARTIES:
        audited = desk("node", "audit", party)
        left = {type_: count for _, type_, count, _ in audited["left"]}
        assert (audited["checkpoints"], audited["plans"], audited["break_glass_reads"]) == (1, 1, 0)
        # counts of the role, two rounds with its encoder beside the update, gains, scores
        messages, vectors = {"bank": (3, 3), **dict.fromkeys(SHOPS, (5, 7))}.get(party, (4, 4))
        assert (left["uploads"], audited["uploads"]) == (messages, vectors)
        assert desk("audit", "verify", party, "--peer", "tax" if party != "tax" else "bank")["heads"] > 0
        told = desk("audit", "verify", "coord", "--key", pinned_key(desk, party), "--peer", party)
        assert (told["events"]["sum"], told["events"]["finished"]) == (7, 1)
        assert told["heads"] == messages + (party == "bank"), "one with every round, to the bank with the score sum too"
    quarter = f"{time.gmtime().tm_year}Q{(time.gmtime().tm_mon + 2) // 3}"
    assert desk("audit", "report", "tax", "--quarter", quarter, "--out", "report.html")["uploads"] == 4

    deployed, simulated = shared(job), in_process(desk, job)
    assert deployed.keys() == simulated.keys()
    assert all(np.array_equal(deployed[n], simulated[n]) for n in deployed)


@pytest.mark.nightly
def test_a_training_begins_from_the_champion_s_weights_which_every_node_knows(desk):
    enrol(desk, *OVERRIDES)
    for party in PARTIES:
        NodeHome(desk.root / party).configure(approve="auto")
    desk.background("coord", "coordinator", "start", "coord")
    desk.until(lambda: "Serving Tests" in desk.log("coord"))
    for party in PARTIES:
        desk.background(party, "node", "start", party)
    desk("coordinator", "run", "coord", *QUICK, "-q")
    desk("node", "conclude", "bank", "--out", "first")
    first = open_bundle(desk.root / "first" / "bundle")
    known = start_hash(first.shared).hex()
    assert [json.loads((desk.root / p / "starts.json").read_text())["starts"] for p in PARTIES] == [[known]] * 6

    warm = ("coordinator", "run", "coord", *QUICK, "seed=1", "-q", "--start", first.meta["plan"][:12])
    job = desk.root / "coord" / "runs" / desk(*warm)["training"]
    desk("node", "conclude", "bank", "--out", "second")
    second = open_bundle(desk.root / "second" / "bundle")
    assert (first.meta["start"]["hash"], second.meta["start"]["hash"]) == (None, known)
    assert all(np.array_equal(second.shared[n], w) for n, w in shared(job).items())
    # two rounds of three steps lead nowhere far: what they end with is nearer to what it began from than to a new seed's
    cold = first_shared(Job.from_json((job / "job.json").read_text()).plan)
    from_first, from_new = (sum(float(np.abs(second.shared[n] - w[n]).sum()) for n in w) for w in (first.shared, cold))
    assert 0 < from_first < from_new / 2

    (desk.root / "tax" / "starts.json").unlink()
    assert "'tax' answered unknown_start" in desk(*warm, code=1)["error"]


def test_mistakes_are_named(desk):
    assert "not empty" in desk("node", "init", "tax", "--party", "tax", "--role", "tax", code=2)["error"]
    assert "no contract is shipped" in desk("node", "init", "x", "--party", "x", "--role", "zoo", code=2)["error"]
    assert "signed no invitation" in desk("node", "start", "tax", code=2)["error"]
    assert "is no coordinator" in desk("coordinator", "status", "tax", code=2)["error"]
    port = free_port()
    wrong = desk("coordinator", "init", "c", "--name", "T", "--port", port, "secure.min_hiden=2", code=2)["error"]
    assert "min_hidden" in wrong
    desk("coordinator", "init", "coord", "--name", "T", "--dial", "localhost", "--port", port, *OVERRIDES)
    first = desk("coordinator", "certificate", "coord")
    rotated = desk("coordinator", "certificate", "coord", "--rotate")
    assert first["fingerprint"] != rotated["fingerprint"]
    assert Path(rotated["file"]).read_text().count("BEGIN CERTIFICATE") == 2
    assert "no roster is in force" in desk("coordinator", "run", "coord", code=2)["error"]
    asked = desk("coordinator", "enrol", "coord", "tax/request.json")["enrolled"][0]
    assert "label owner" in asked["refused"]
    raw = json.loads((desk.root / "tax" / "request.json").read_text())
    older = replace(read_request(NodeHome(desk.root / "tax")), release="0.0.9").signed(
        identity_of(NodeHome(desk.root / "tax"))
    )
    write_document(Path("older.json"), older)
    assert "runs fedprofile 0.0.9" in desk("coordinator", "enrol", "coord", "older.json", code=2)["error"]
    Path("forged.json").write_text(json.dumps({**raw, "org": "another"}))
    assert "not signed" in desk("coordinator", "enrol", "coord", "forged.json", code=2)["error"]
    for party in PARTIES:
        desk("coordinator", "enrol", "coord", f"{party}/request.json")
    assert "is an invitation" in desk("coordinator", "enrol", "coord", "coord/invitation.json", code=2)["error"]
    first = desk("node", "sign-roster", "tax", "coord/invitation.json", "--yes")["signature"]
    missing = desk("coordinator", "enrol", "coord", first)["enrolled"][0]["missing"]
    assert set(missing) == set(PARTIES) - {"tax"}
    status = desk("coordinator", "status", "coord")
    assert (status["running"], status["roster"], status["proposal"]) == (False, 0, 1)
    # another proposal voids what was signed
    desk("node", "init", "shop", "--party", "shop", "--role", "ecommerce", "--contract", "shop-1.yaml")
    desk("coordinator", "enrol", "coord", "shop/request.json")
    assert "another roster" in desk("coordinator", "enrol", "coord", first, code=2)["error"]


def test_limits_are_fixed_at_init_and_a_node_tightens_its_own(desk):
    enrol(desk, *OVERRIDES)
    assert "pinned" in desk("coordinator", "run", "coord", "secure.min_hidden=1", "fusion.min_views=1", code=2)["error"]
    shown = desk("node", "policy", "tax", "max_uploads=50", "clip=0.5", 'tasks=["tier"]')
    assert (shown["own"]["max_uploads"], shown["in_force"]["clip"]) == (50, 0.5)
    for wrong in ("max_upload=50", "clip=x", "clip=true", "recompute=1", "tasks=tier"):
        assert desk("node", "policy", "tax", wrong, code=2)["error"]
    assert desk("node", "policy", "tax")["own"]["max_uploads"] == 50


def test_members_come_and_go_before_any_training(desk):
    """Version after version in force, none of which a run has brought to the nodes."""

    def signed_by(version: int, *parties: str) -> dict:
        words = [desk("node", "sign-roster", p, "coord/invitation.json", "--yes") for p in parties]
        last = desk("coordinator", "enrol", "coord", *(w["signature"] for w in words))["enrolled"][-1]
        assert (last["roster"], last["missing"]) == (version, [])
        return {p: w["changes"] for p, w in zip(parties, words, strict=True)}

    first = ("bank", "medical", "shop-1")
    desk("coordinator", "init", "coord", "--name", "Tests", "--port", free_port(), *OVERRIDES)
    desk("coordinator", "enrol", "coord", *(f"{p}/request.json" for p in first))
    signed_by(1, *first)
    desk("coordinator", "enrol", "coord", "shop-2/request.json")
    changed = signed_by(2, *first, "shop-2")
    assert changed["bank"] == {"added": ["shop-2"], "changed": [], "removed": []}
    assert changed["shop-2"]["added"] == [*first, "shop-2"], "all are new to it"
    desk("coordinator", "remove", "coord", "medical")
    invitation = json.loads((desk.root / "coord" / "invitation.json").read_text())
    invitation["previous"]["signatures"].pop()
    Path("short.json").write_text(json.dumps(invitation))
    assert "is in force" in desk("node", "sign-roster", "bank", "short.json", "--yes", code=2)["error"]
    assert signed_by(3, *first, "shop-2")["bank"]["removed"] == ["medical"]
    desk("node", "leave", "medical")
    assert desk("node", "status", "shop-2")["roster"] == 2, "what the next proposal brought; version 3 comes with a run"


def test_a_node_rotates_its_key_and_leaves(desk):
    enrol(desk, *OVERRIDES)
    before = (desk.root / "tax" / "flower.key.pub").read_text()
    assert "ENCRYPTED" in (desk.root / "tax" / "flower.key").read_text()
    desk("node", "rotate", "tax")
    assert (desk.root / "tax" / "flower.key.pub").read_text() != before
    assert (desk.root / "tax" / "old-flower.key").exists()
    assert "ENCRYPTED" in (desk.root / "tax" / "flower.key").read_text()
    assert list(log_of(NodeHome(desk.root / "tax")).chain)[-1]["event"] == "key-rotated"
    assert "still names" in desk("node", "leave", "medical", code=2)["error"]
    proposed = desk("coordinator", "enrol", "coord", "tax/request.json")["enrolled"][0]
    assert proposed["roster"] == 1, "a new key for dialling needs no new roster"
    log = desk.root / "tax" / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b"key-rotated", b"key-hidden!"))
    for command in ("start", "audit"):
        assert "audit.jsonl, line 2: the line was changed" in desk("node", command, "tax", code=1)["error"]
