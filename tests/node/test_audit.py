"""What a node's audit log holds of a run, and that nothing leaves when it cannot be written or was put back."""

from __future__ import annotations

import hashlib
import resource
import shutil
import signal
from dataclasses import replace

import pytest

from fedprofile.errors import DataError
from fedprofile.governance.audit_verify import verify_log
from fedprofile.messages import Envelope
from fedprofile.node.audit import SEALED, NodeAudit, log_of
from fedprofile.secagg.messages import Round

PARTIES = ("bank", "ecommerce", "tax")
LOG = ("audit.jsonl", "audit.head")


def events(world, party, name=None):
    return [r for r in log_of(world.home(party)).chain if name in (None, r["event"])]


def put_back(world, party, backup, names):
    for name in names:
        shutil.copy(backup / "nodes" / party / name, world.home(party).path / name)


def upload_twice(world, request):
    """Round 1 and its retry. A log that stands where it stood before the last upload is what a kill leaves, too."""
    (part,) = Envelope.decode(request).parts
    round = Round.decode(part, world.job.roster)
    for attempt in (0, 1):
        asked = replace(round, id=replace(round.id, attempt=attempt)).encode()
        assert world.ask("tax", "round", {}, asked).type == "uploads"


@pytest.fixture
def backup(ready, tmp_path):
    """The homes as they were before round 1."""
    shutil.copytree(ready[0].root, tmp_path / "backup")
    return tmp_path / "backup"


def test_every_message_of_a_run_is_in_the_egress_ledger_before_it_leaves(world):
    left = {party: [] for party in PARTIES}

    def via(party, request):
        reply = world.node(party).handle(request)
        last = [r for r in events(world, party) if r["event"] != "checkpoint"][-1]
        assert (last["event"], last["bytes"]) == ("sent", len(reply))
        left[party].append(reply)
        return reply

    world.drive(via=via)
    for party in PARTIES:
        ledger = events(world, party, "sent")
        kinds = [Envelope.decode(data).type for data in left[party]]
        assert [r["type"] for r in ledger] == kinds
        for line, kind, data in zip(ledger, kinds, left[party], strict=True):
            assert line.get("sha256") == (None if kind in SEALED else hashlib.sha256(data).hexdigest())
            assert (line.get("run") == world.job.plan.run_id.hex()) == (kind != "identity")
        assert verify_log(world.home(party).path).checkpoints == 1


def test_the_log_says_what_was_used_and_spent_and_names_no_customer(finished):
    world, _ = finished
    plan = world.job.plan
    for party in PARTIES:
        (decided,), (used,), (spent,) = (events(world, party, name) for name in ("plan", "table", "spent"))
        table = world.node(party).run.table
        assert (decided["decision"], decided["by"], decided["purpose"]) == ("approved", "policy", plan.purpose)
        assert (decided["tasks"], decided["rounds"]) == ([t.name for t in plan.tasks], plan.learning.rounds)
        assert decided["columns"] == used["columns"] == list(table.columns)
        assert (used["rows"], used["run"]) == (len(table), plan.run_id.hex())
        sums = [tuple(s) for r in events(world, party, "sent") for s in r.get("sums", [])]
        due = [("update", "", 1, 0), ("update", "", 2, 0), ("stats", "", 3, 0)]
        assert sums == (due if party == "bank" else [*due, ("score", "", 4, 0)])
        assert (spent["uploads"], spent["openings"], spent["label_eps"]) == (len(sums), 1, 4.0)
        text = (world.home(party).path / "audit.jsonl").read_text()
        assert not [i for i in table.ids.tolist() if i in text]
        assert world.home(party).derive("identity").hex() not in text


def test_equal_simulated_runs_write_equal_logs(finished, world):
    done, _ = finished
    world.drive()
    for party in PARTIES:
        assert (done.home(party).path / "audit.jsonl").read_bytes() == (
            world.home(party).path / "audit.jsonl"
        ).read_bytes()


def test_an_upload_carries_the_head_before_it_and_the_journal_remembers_it(ready):
    world, requests = ready
    before = log_of(world.home("tax")).chain.pinned().hash.hex()
    world.node("tax").handle(requests["tax"])
    assert list(world.node("tax").journal)[-1]["audit_head"] == before


def test_a_refusal_is_there_with_its_code(world):
    world.ask("tax", "open")
    assert world.ask("tax", "align-spine").body == {"code": "not_for_this_node"}
    assert events(world, "tax", "refused")[-1] == {
        "event": "refused", "code": "not_for_this_node", "asked": "align-spine",
    }  # fmt: skip


def test_on_a_full_disk_nothing_leaves_but_a_fixed_code(ready):
    world, requests = ready
    node, path = world.node("tax"), world.home("tax").path / "audit.jsonl"
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    node.audit.begin()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
        reply = node.handle(Envelope("identify").encode())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert Envelope.decode(reply) == Envelope("error", {"code": "audit_failed"})
    assert path.read_bytes() == before
    assert Envelope.decode(node.handle(requests["tax"])).type == "uploads"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (LOG, r"audit\.jsonl: the log ends before what this node has sent"),
        (("journal.jsonl",), r"journal\.jsonl: uploads that the audit log says were sent are missing"),
        (("audit.jsonl",), r"audit\.jsonl, line \d+: lines were cut"),
    ],
    ids=["log", "journal", "log without its head"],
)
def test_a_node_whose_files_were_put_back_refuses_and_names_them(ready, backup, names, said, caplog):
    world, requests = ready
    upload_twice(world, requests["tax"])
    put_back(world, "tax", backup, names)
    restarted = world.restart("tax")
    with pytest.raises(DataError, match=said):
        restarted.audit.begin()
    assert world.ask("tax", "identify").body == {"code": "audit_failed"}
    assert "put back" in caplog.text or "cut" in caplog.text


def test_a_running_node_notices_a_log_that_was_put_back(ready, backup):
    world, requests = ready
    world.node("tax").handle(requests["tax"])
    put_back(world, "tax", backup, LOG)
    assert world.ask("tax", "identify").body == {"code": "audit_failed"}


def test_a_kill_between_journal_and_log_is_no_tampering(ready, monkeypatch):
    world, requests = ready
    with monkeypatch.context() as patch:
        patch.setattr(NodeAudit, "sent", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            world.node("tax").handle(requests["tax"])
    assert list(world.node("tax").journal)[-1]["event"] == "upload"
    assert world.restart("tax") is world.node("tax")
    assert world.ask("tax", "identify").type == "identity"


def test_a_plan_that_the_policy_refuses_is_there_with_its_purpose_cut_to_a_line(world):
    plan = replace(world.job.plan, purpose="x" * 10_000, min_release=1)
    assert world.ask("tax", "plan", world.plan_body(plan)).type == "error"
    decided, refused, sent = events(world, "tax")[-3:]
    assert (decided["decision"], decided["by"], decided["plan"]) == ("refused", "policy", plan.hash.hex())
    assert (decided["purpose"], refused["asked"], sent.get("run")) == ("x" * 120, "plan", None)
