"""Consent in a real run: who has no live grant and authorisation is in no alignment, release, batch or score."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fedprofile.errors import DataError, NodeFailed, PolicyRefusal
from fedprofile.governance.consent_records import FOREVER, KINDS, Terms
from fedprofile.governance.subjects import pseudonyms
from fedprofile.messages import Envelope
from fedprofile.models.batches import Batches
from fedprofile.node.aligning import Aligning
from fedprofile.node.consent import bind, ledger_of, trained_with
from fedprofile.node.run import NodeRun
from fedprofile.node.source import now
from fedprofile.node.spine import read_spine
from fedprofile.node.training import LocalTraining
from fedprofile.privacy.sealing import LabelRelease

PURPOSE = "customer tiering and product propensity"


def table_ids(world, party):
    import polars as pl

    return np.array(pl.read_parquet(world.home(party).path / "table.parquet")["__id__"].to_list())


def subjects(world, party, ids):
    return pseudonyms(np.array(ids), ledger_of(world.home(party)).subject_key)


def sign(world, party, ids, start=0, end=FOREVER, purpose=PURPOSE):
    ledger = ledger_of(world.home(party))
    ledger.create()
    for kind in KINDS:
        terms = Terms(kind, purpose, party if kind == "grant" else "bank", (), "v1", "app")
        ledger.sign_up(terms, subjects(world, party, ids), np.full(len(ids), start), np.full(len(ids), end))


def revoke(world, party, ids):
    ledger_of(world.home(party)).revoke(subjects(world, party, ids), "app")


@pytest.fixture
def asked(world):
    """``world`` whose homes keep ledgers; everybody has signed for this purpose and for the bank."""
    for party in world.homes:
        file = world.home(party).path / "node.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"consent": "ledger"}))
        sign(world, party, table_ids(world, party))
    return world


@pytest.fixture
def drawn(monkeypatch):
    """(party, t) -> slots whose rows stood in a batch of that round."""
    seen: dict[tuple[str, int], set[int]] = {}
    current: list[LocalTraining] = []
    draw, train = Batches.draw, LocalTraining.round

    def watched(self):
        at = draw(self)
        training = current[-1]
        slots = training.slots[np.unique(at.numpy())]
        seen.setdefault((training.home.config.party, training.t + 1), set()).update(slots.tolist())
        return at

    def entered(self, *args):
        current.append(self)
        return train(self, *args)

    monkeypatch.setattr(Batches, "draw", watched)
    monkeypatch.setattr(LocalTraining, "round", entered)
    return seen


def in_training(world, party, n, skip=0):
    """Some training customers of a party, and their slots."""
    spine, home = read_spine(world.home(party)), world.home(party)
    release = LabelRelease.decode(home.read("release.bin"), world.job.plan.tasks)
    chosen = np.flatnonzero(np.isin(spine.slots, release.slots) & spine.enough)[skip : skip + n]
    return table_ids(world, party)[spine.rows[chosen]].tolist(), spine.slots[chosen].tolist()


def test_everybodys_consent_gives_the_run_that_simulated_consent_gives(asked, finished_once):
    other, _ = finished_once
    asked.drive()
    for name in ("shared.safetensors", "score_sum.safetensors", "release.bin"):
        assert asked.home("bank").read(name) == other.home("bank").read(name), name


class Script:
    """A transport that does something before or after the n-th message of a type to one node."""

    def __init__(self, world):
        self.world, self.steps, self.count = world, {}, {}

    def on(self, party, type_, n, before=None, after=None):
        self.steps[party, type_, n] = before, after

    def __call__(self, party, request):
        key = party, Envelope.decode(request).type
        self.count[key] = self.count.get(key, 0) + 1
        before, after = self.steps.get((*key, self.count[key]), (None, None))
        if before:
            before()
        reply = self.world.node(party).handle(request)
        if after:
            after(request)
        return reply


def test_a_revocation_counts_from_the_next_message_on_at_every_stage(asked, drawn, change, monkeypatch):
    world, script, gone, later = asked, Script(asked), {}, timedelta(0)
    clock = lambda: datetime.now(UTC) + later  # noqa: E731
    monkeypatch.setattr("fedprofile.node.source.now", clock)
    monkeypatch.setattr("fedprofile.node.run.now", clock)
    never = table_ids(world, "tax")[:5].tolist()
    revoke(world, "tax", never)

    def leave(stage, party, n=6, skip=0):
        def do():
            ids, gone[stage] = in_training(world, party, n, skip)
            revoke(world, party, ids)

        return do

    def before_release():
        spine = read_spine(world.home("bank"))
        ids = table_ids(world, "bank")[spine.rows[:40]].tolist()
        gone["release"] = spine.slots[:40].tolist()
        revoke(world, "bank", ids)

    def set_back():
        nonlocal later
        later = timedelta(0)
        leave("scores", "tax", skip=20)()

    def before_opening():
        ids, gone["opening"] = in_training(world, "bank", 5, skip=80)
        revoke(world, "bank", ids)

    def expire():
        nonlocal later
        later = timedelta(days=2)
        world.restart("tax")  # nor does a node forget it that is started again

    def refused_retry(stage, skip):
        def do(request):
            ids, gone[stage] = in_training(world, "tax", 3, skip)
            revoke(world, "tax", ids)
            before = len(list(world.node("tax").journal))
            again = Envelope("round", {}, (change(world, request, attempt=1),)).encode()
            assert Envelope.decode(world.node("tax").handle(again)).body == {"code": "consent_changed"}
            events = [e["event"] for e in list(world.node("tax").journal)[before:]]
            assert events == ["withdrawn", "refused"]

        return do

    tomorrow = int((datetime.now(UTC) + timedelta(days=1)).timestamp())
    expiring = table_ids(world, "tax")[-30:].tolist()
    revoke(world, "tax", expiring)
    later = timedelta(seconds=2)  # a new signature begins after the revocation
    sign(world, "tax", expiring, start=ledger_of(world.home("tax")).refresh().latest + 1, end=tomorrow)

    script.on("bank", "release-request", 1, before_release)
    script.on("tax", "round", 1, leave("round 1", "tax"), refused_retry("retry of round 1", 6))
    script.on("bank", "round", 1, leave("bank", "bank", skip=50))
    script.on("tax", "round", 2, leave("round 2", "tax", skip=12))
    script.on("tax", "round", 3, expire)
    script.on("bank", "score-sum", 1, before_opening)
    script.on("tax", "round", 4, set_back, refused_retry("retry of scores", 40))
    world.drive(via=script)

    # alignment
    spine = read_spine(world.home("tax"))
    assert not set(never) & set(table_ids(world, "tax")[spine.rows])
    # the bank's release, to itself and to others
    for party in world.homes:
        release = LabelRelease.decode(world.home(party).read("release.bin"), world.job.plan.tasks)
        assert len(release.slots)
        assert not set(gone["release"]) & set(release.slots.tolist())
    # batches: in until the message before, out from the next one on
    assert set(gone["retry of round 1"]) <= drawn["tax", 1]
    assert set(gone["round 2"]) & drawn["tax", 1]
    assert not set(gone["round 1"]) & (drawn["tax", 1] | drawn["tax", 2])
    assert not set(gone["retry of round 1"] + gone["round 2"]) & drawn["tax", 2]
    assert not set(gone["bank"]) & (drawn["bank", 1] | drawn["bank", 2])
    # scores: what the bank opened holds the other node's alone
    placed = {p: world.node(p).run.placed_scores() for p in ("tax", "ecommerce")}
    expired = set(spine.slots[np.isin(table_ids(world, "tax")[spine.rows], expiring)].tolist())
    assert len(expired) > 3
    silent = expired.union(*(gone[s] for s in ("round 1", "retry of round 1", "round 2", "scores")))
    out = sorted(silent)
    assert len(out) > 20
    assert not placed["tax"][out].any()
    opened = world.home("bank").read_arrays("score_sum.safetensors")["sums"]
    assert not opened[gone["opening"]].any()
    assert not opened[gone["bank"]].any()
    out = np.setdiff1d(out, [s for stage in ("release", "bank", "opening") for s in gone[stage]])
    assert len(out) > 10
    np.testing.assert_allclose(opened[out], placed["ecommerce"][out], atol=1 / 16)
    assert placed["ecommerce"][gone["opening"]].any()
    sent = np.setdiff1d(spine.slots[spine.enough], sorted(silent) + gone["retry of scores"])
    assert (placed["tax"][sent] != 0).any(axis=1).mean() > 0.9


def test_a_revocation_during_alignment_ends_it_and_one_before_is_an_absent_customer(asked):
    script = Script(asked)
    script.on("tax", "align-match", 1, lambda: revoke(asked, "tax", table_ids(asked, "tax")[:1]))
    with pytest.raises(NodeFailed, match="spine_changed"):
        asked.drive(via=script)
    assert asked.home("tax").read("release.bin") is None


def test_consent_for_another_purpose_aligns_nobody(asked):
    node, home = asked.node("tax"), asked.home("tax")
    for purpose, expected in ((PURPOSE, 1), ("marketing", 0)):
        plan = replace(asked.job.plan, purpose=purpose)
        run = Aligning(home, node.identity, node.roster, node.policy, node.journal, plan, None)
        assert (len(run.ids()[1]) > 0) == expected


def test_consent_is_asked_for_the_label_owner_of_the_run_though_a_roster_with_another_one_is_signed(asked):
    node, home = asked.node("tax"), asked.home("tax")
    home.configure(label_owner="ecommerce")  # what signing an invitation does, before a run brings that roster
    plan = asked.job.plan
    assert len(Aligning(home, node.identity, node.roster, node.policy, node.journal, plan, None).ids()[1]) > 0
    ids = table_ids(asked, "tax")
    for roster, allowed in ((node.roster, True), (replace(node.roster, label_owner="ecommerce"), False)):
        assert NodeRun(home, plan, roster).permit.allowed(ids, "training", now()).all() == allowed


def test_a_home_with_a_broken_ledger_aligns_nothing(asked):
    file = asked.home("tax").keys / "consent.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1].replace(b'"purpose"', b'"porpuse"') + lines[2])
    with pytest.raises(NodeFailed, match="node_failed"):
        asked.drive()
    assert asked.home("tax").read("spine.safetensors") is None


def test_rows_once_bound_to_a_sum_stay_the_same(world):
    home = world.home("tax")
    bind(home, "update/", 1, np.array([1, 2, 3]))
    bind(home, "update/", 1, np.array([1, 2, 3]))
    bind(home, "role/tax", 1, np.array([1, 2]))
    with pytest.raises(PolicyRefusal, match="consent_changed"):
        bind(home, "update/", 1, np.array([1, 2]))
    bind(home, "update/", 2, np.array([1, 2]))


def test_a_run_is_remembered_by_pseudonym_before_its_first_update(asked):
    requests = asked.drive(until="round")
    home = asked.home("tax")
    assert ledger_of(home).noted("trained") == []
    asked.node("tax").handle(requests["tax"])
    (note,) = ledger_of(home).noted("trained")
    run = asked.node("tax").run
    _, train = run.released()
    expected = subjects(asked, "tax", run.table.ids[train])
    held = trained_with(home, run.plan.run_id, note["digest"])
    assert sorted(map(tuple, held.tolist())) == sorted(map(tuple, expected.tolist()))
    assert (note["customers"], note["purpose"]) == (len(expected), PURPOSE)
    (file,) = (home.keys / "trained").iterdir()
    assert oct(file.stat().st_mode)[-3:] == "600"
    file.write_bytes(file.read_bytes()[16:])
    with pytest.raises(DataError, match="changed or lost"):
        trained_with(home, run.plan.run_id, note["digest"])


class Refusing:
    """Everybody may be used for everything but one use."""

    def __init__(self, use):
        self.use = use

    def allowed(self, subjects, use, at):
        return np.full(len(subjects), use != self.use)


def test_each_use_is_asked_for_by_its_own_name(finished, code_of):
    world, _ = finished

    def run(party, use):
        return NodeRun(world.home(party), world.job.plan, world.job.roster, Refusing(use))

    assert run("tax", "label_release").placed_scores().any()
    assert not run("tax", "score").placed_scores().any()
    bank = world.node("bank")
    assert len(bank._released(run("bank", "score")).slots)
    assert code_of(lambda: bank._released(run("bank", "label_release"))) == "consent_changed"
    world.home("bank").remove("permitted.json")
    assert code_of(lambda: bank._released(run("bank", "label_release"))) == "release_too_small"
    assert len(run("tax", "training").table) == 0
