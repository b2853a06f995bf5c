"""The coordinator's own log: what it says of a run, and that a node notices in the next round what was done to it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import stat
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from fedprofile.coordinator.audit import KEY, CoordinatorLog, failed, result_hash
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.enrolment import Invitation
from fedprofile.errors import DataError, NodeFailed, RemoteProtocolError, TrainingDiverged
from fedprofile.governance.audit import heads_root
from fedprofile.governance.audit_coordinator import COORDINATOR, Removed, RosterInForce, Shown, Stopped, bound
from fedprofile.governance.audit_verify import heads_of, verify_log, verify_shown
from fedprofile.governance.chain import SIGNED_HEAD, START, Chain, Head
from fedprofile.messages import Envelope
from fedprofile.node.audit import log_of
from fedprofile.node.membership import SIGNED
from fedprofile.node.policy import write_json
from fedprofile.secagg.identity import verify
from fedprofile.secagg.messages import Round
from fedprofile.types import Policy

FORKS = multiprocessing.get_context("fork")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "coord").mkdir()
    return tmp_path / "coord"


@pytest.fixture
def pinned(world, folder):
    """The world, each of whose nodes has pinned the key of the coordinator's log."""
    invitation = Invitation("f", world.job.roster, Policy(), "h:1", "pem", "ab", CoordinatorLog(folder).key.hex())
    for home in world.homes.values():
        write_json(home.path / SIGNED, invitation.to_json())
    return world


def records(folder):
    return list(Chain(folder / "audit.jsonl", f"audit/{COORDINATOR}"))


def shown_to(world, party):
    return [r for r in log_of(world.home(party)).chain if r["event"] == "coordinator"]


# -- a whole run ------------------------------------------------------------------------------------
def test_a_run_is_told_line_by_line_and_changes_no_bit(pinned, folder, finished_once):
    outcome = pinned.drive(pinned.exchange(log=CoordinatorLog(folder)))
    assert all(np.array_equal(outcome.shared[n], w) for n, w in finished_once[1].shared.items())
    begun, started, *sums = records(folder)
    assert (begun["party"], started["event"], started["attempt"]) == (COORDINATOR, "started", 0)
    told = [(s["kind"], s["t"], s.get("opener"), s.get("shown")) for s in sums]
    assert told == [("update", 1, None, 2), ("update", 2, None, 3), ("stats", 3, None, 4), ("score", 4, "bank", None)]
    assert all(set(s["members"]) == {"bank", "ecommerce", "tax"} for s in sums)
    assert all(set(s) <= {*SUM, "opener", "shown"} for s in sums), "a field that nobody has looked at"

    log = verify_log(folder, CoordinatorLog(folder).key)
    for party, rounds in {"bank": 4, "ecommerce": 4, "tax": 4}.items():
        lines = shown_to(pinned, party)
        assert [line["seq"] for line in lines] == [2, 3, 4, 5]
        assert len(lines) == rounds
        for line in lines:
            verify(bytes.fromhex(log.key), SIGNED_HEAD, bytes.fromhex(line["head"]), bytes.fromhex(line["sig"]))
        assert verify_shown(folder, peer=pinned.home(party).path).heads == rounds
    assert heads_of(COORDINATOR, pinned.home("tax").path, bytes(32)) == set(), "heads of another coordinator's log"


SUM = {"event", "run", "kind", "scope", "t", "attempt", "members", "sha256", "heads", "at"}


def test_the_line_of_a_sum_is_on_disk_before_anything_follows_from_it(pinned, folder):
    requests = pinned.drive(exchange := pinned.exchange(log=CoordinatorLog(folder)), until="round")
    replies = {p: pinned.node(p).handle(r) for p, r in requests.items()}
    following = exchange.send(replies)
    line = records(folder)[-1]
    assert (line["kind"], line["t"]) == ("update", 1)
    request = Round.decode(Envelope.decode(following["tax"]).parts[0], pinned.job.roster)
    body = Envelope.decode(following["tax"]).body["log"]
    heads = heads_root({p: bytes.fromhex(h) for p, h in CheckpointStore(pinned.root).load().heads.items()})
    assert line["heads"] == body["others"] == heads.hex()
    assert request.audit_head == bound(heads, bytes.fromhex(body["head"]))
    assert len(body["lines"]) == 1, "what the node was shown before is not sent again"


def test_where_it_cannot_be_written_nothing_is_opened(pinned, folder):
    requests = pinned.drive(exchange := pinned.exchange(log=CoordinatorLog(folder)), until="round")
    file = folder / "audit.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="lines were cut"):
        exchange.send({p: pinned.node(p).handle(r) for p, r in requests.items()})
    assert CheckpointStore(pinned.root).load().t == 0


# -- killed, and started again ----------------------------------------------------------------------
def test_a_restarted_coordinator_goes_on_with_the_same_chain(pinned, folder, finished_once):
    """Killed with a sum opened and logged, but not in the checkpoint; meanwhile a command has written a line."""
    exchange = pinned.exchange(log=CoordinatorLog(folder))
    requests = pinned.drive(exchange, until="round", times=2)
    old = (pinned.root / "checkpoint.safetensors").read_bytes()
    exchange.send({p: pinned.node(p).handle(r) for p, r in requests.items()})
    (pinned.root / "checkpoint.safetensors").write_bytes(old)
    CoordinatorLog(folder).write(Removed("shop-9"))
    outcome = pinned.drive(pinned.exchange(log=CoordinatorLog(folder)))
    assert all(np.array_equal(outcome.shared[n], w) for n, w in finished_once[1].shared.items())
    lines = records(folder)
    assert [line["attempt"] for line in lines if line["event"] == "started"] == [0, 1]
    twice = [line for line in lines if (line.get("kind"), line.get("t")) == ("update", 2)]
    assert [line["attempt"] for line in twice] == [0, 1]
    assert len({line["sha256"] for line in twice}) == 1, "the same sum, opened again"
    assert verify_shown(folder, peer=pinned.home("tax").path).heads == len(shown_to(pinned, "tax"))


def test_new_keys_and_failures_are_told_by_code_alone(pinned, folder):
    requests = pinned.drive(exchange := pinned.exchange(log=CoordinatorLog(folder)), until="round")
    exchange.send(dict.fromkeys(requests, Envelope("error", {"code": "need_setup"}).encode()))
    lost, again = records(folder)[-2:]
    assert (lost["event"], lost["code"], lost["party"], lost["renewed"]) == ("failed", "need_setup", "bank", True)
    assert (again["event"], again["attempt"], again["t"]) == ("started", 1, 0)
    run = bytes(32)
    complaint = NodeFailed("tax", "wrong_spine", "whatever it wrote", complaint="ab" * 32)
    said = {"event": "failed", "run": run.hex(), "code": "wrong_spine", "party": "tax", "complaint": "ab" * 32}
    assert failed(run, complaint, True).to_record() == {**said, "renewed": True}
    assert failed(run, TrainingDiverged("tax", "layer", 3)).to_record()["t"] == 3
    assert failed(run, RemoteProtocolError("zero_weight", "text")).to_record()["code"] == "zero_weight"
    assert failed(run, OSError("/secret/path")).to_record() == {"event": "failed", "run": run.hex(), "code": "OSError"}


# -- what a node notices ----------------------------------------------------------------------------
@pytest.fixture
def second(pinned, folder):
    """All have been asked for round 2, and so were shown the line of round 1; ``old`` is the log as it was before it."""
    requests = pinned.drive(exchange := pinned.exchange(log=CoordinatorLog(folder)), until="round")
    shutil.copytree(folder, folder.parent / "old")
    requests = exchange.send({p: pinned.node(p).handle(r) for p, r in requests.items()})
    assert {Envelope.decode(pinned.node(p).handle(r)).type for p, r in requests.items()} == {"uploads"}
    return pinned


def put_back(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "old", folder)


def rewritten(folder):
    """As long as the true one was, and longer: only the lines between say that it is another."""
    put_back(folder)
    (folder / "audit.jsonl").unlink()
    (folder / "audit.head").unlink()
    log = CoordinatorLog(folder)
    for n in range(9):
        log.write(Removed(f"nobody-{n}"))
    return log


def forked(folder):
    put_back(folder)
    log = CoordinatorLog(folder)
    log.write(*(Removed(f"nobody-{n}") for n in range(4)))
    return log


@pytest.mark.parametrize("history", [rewritten, forked], ids=["rewritten", "forked"])
def test_another_history_is_refused_in_the_next_round_and_leaves_its_signed_head(second, folder, history):
    seen = {p: shown_to(second, p) for p in second.homes}
    with pytest.raises(NodeFailed, match="coordinator_log"):
        second.drive(second.exchange(log=history(folder)))
    for party, before in seen.items():
        *kept, last = shown_to(second, party)
        assert kept == before
        assert last["refused"]
        with pytest.raises(DataError, match="is held by others and is no line here"):
            verify_shown(folder, peer=second.home(party).path)
        verify_log(folder)  # good in itself
    with pytest.raises(DataError, match="is held by others"):
        verify_shown(folder.parent / "old", peer=second.home("tax").path)


def test_a_cut_tail_is_refused_in_the_next_round(second, folder):
    """Put back, the log ends in a line that the run's new process wrote instead of the one that was shown."""
    put_back(folder)
    with pytest.raises(NodeFailed, match="coordinator_log"):
        second.drive(second.exchange(log=CoordinatorLog(folder)))


def test_no_log_at_all_is_refused_once_a_key_is_pinned(second):
    with pytest.raises(NodeFailed, match="coordinator_log"):
        second.drive(second.exchange())


def test_a_head_by_another_key_is_refused(second, folder):
    before = shown_to(second, "tax")
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(NodeFailed, match="coordinator_log"):
        second.drive(second.exchange(log=CoordinatorLog(folder)))
    assert shown_to(second, "tax") == before, "what is not signed by that key proves nothing against its holder"


def test_a_head_that_the_round_is_not_bound_to_is_refused(pinned, folder):
    """Else it could be another one for each node: bound into the masks, two heads are two rounds."""
    requests = pinned.drive(pinned.exchange(log=CoordinatorLog(folder)), until="round")
    envelope, attempts = Envelope.decode(requests["tax"]), count(1)
    request, shown = Round.decode(envelope.parts[0], pinned.job.roster), envelope.body["log"]

    def ask(body):
        again = replace(request, id=replace(request.id, attempt=next(attempts)))
        return pinned.ask("tax", "round", {"log": body}, again.encode())

    other = CoordinatorLog(folder)
    other.write(Removed("nobody"))
    later = Shown(other.head, bytes(32), other.lines(0, other.head)).to_json()
    for body in (later, {**shown, "others": "11" * 32}):
        assert ask(body).body == {"code": "audit_head_mismatch"}
    for body in (None, [], {**shown, "seq": "2"}, {**shown, "sig": "00"}, {**shown, "lines": [2]}):
        assert ask(body).body == {"code": "bad_request"}
    assert not shown_to(pinned, "tax")
    assert ask(shown).type == "uploads"


def test_before_a_key_is_pinned_heads_are_followed_unsigned(world, folder):
    """A coordinator's folder, and invitations, from before there was such a log."""
    world.drive(world.exchange(log=CoordinatorLog(folder)), until="round", times=3)
    lines = shown_to(world, "tax")
    assert [line["seq"] for line in lines] == [2, 3]
    assert not any("key" in line for line in lines)
    assert verify_shown(folder, peer=world.home("tax").path).heads == 2
    with pytest.raises(NodeFailed, match="coordinator_log"):
        world.drive(world.exchange())


# -- the log itself ---------------------------------------------------------------------------------
def eight(folder):
    log = CoordinatorLog(folder)
    for n in range(7):
        log.write(Removed(f"p{n}"))
    heads = [START, *(head for head, _ in Chain(folder / "audit.jsonl", f"audit/{COORDINATOR}").lines())]
    return log, heads


def test_a_head_follows_from_every_line_before_it_and_from_no_other(folder, tmp_path):
    log, heads = eight(folder)
    (tmp_path / "twin").mkdir()
    _, others = eight(tmp_path / "twin")
    for since in range(8):
        shown = Shown.from_json(
            json.loads(json.dumps(Shown(log.head, bytes(32), log.lines(since, log.head)).to_json()))
        )
        assert len(shown.lines) == 8 - since
        for last in heads[1:]:
            assert shown.follows(last) == (last.seq >= since)
            assert not shown.follows(others[last.seq])
        assert not shown.follows(Head(9, bytes(32)))
        assert shown.follows(START)
        if shown.lines:
            edited = (*shown.lines[:-1], shown.lines[-1].replace(b"p6", b"p7"))
            assert not replace(shown, lines=edited).follows(heads[max(since, 1)]) or since == 8
        assert not replace(shown, head=others[8]).follows(heads[1])


def test_who_has_been_shown_what(folder):
    log, _ = eight(folder)
    assert log.seen("tax") == 0
    log.write(RosterInForce(1, "aa", "bb", ("bank", "tax")))
    assert (log.seen("tax"), log.seen("shop")) == (9, 0)
    log.write(RosterInForce(2, "aa", "bb", ("bank", "tax", "shop")))
    assert (log.seen("tax"), log.seen("shop"), CoordinatorLog(folder).seen("shop")) == (9, 10, 10)


def test_its_key_is_made_once_and_kept_from_others(folder):
    made = CoordinatorLog(folder).key
    assert stat.S_IMODE((folder / KEY).stat().st_mode) == 0o600
    assert CoordinatorLog(folder).key == made == bytes.fromhex(verify_log(folder).key)
    (folder / KEY).unlink()
    with pytest.raises(DataError, match="the key of the audit log is missing"):
        CoordinatorLog(folder)


def _writes(folder, n):
    log = CoordinatorLog(folder)
    for i in range(40):
        log.write(Stopped(f"{n}-{i}"), checkpoint=i % 10 == 9)


def test_commands_and_trainings_write_into_one_chain(folder):
    """Between the lines of one process stand those of another: checkpoints have to be of all."""
    writers = [FORKS.Process(target=_writes, args=(folder, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done = verify_log(folder)
    assert (done.events["stopped"], done.checkpoints) == (120, 12)


@pytest.mark.parametrize("line", [1, 4, 8])
def test_an_edited_line_ends_every_command(folder, line):
    eight(folder)
    lines = (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"record", b"recorb")
    (folder / "audit.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(DataError, match=f"line {line}"):
        CoordinatorLog(folder)


def test_the_hash_of_a_sum_is_of_its_names_shapes_and_numbers():
    values = {"b": np.zeros((2, 3)), "a": np.ones(4)}
    mark = result_hash(values)
    assert mark == result_hash(dict(sorted(values.items())))
    others = [{**values, "b": np.zeros((3, 2))}, {**values, "a": np.full(4, 1 + 2**-52)}, {"c": values["b"], **values}]
    assert len({mark, *map(result_hash, others)}) == 4
