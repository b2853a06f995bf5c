"""The log as its node writes it: order, time, checkpoints, and what it does when its file was put back or is full."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal

import pytest

from fedprofile.errors import DataError
from fedprofile.governance.audit import Checkpoint, Left, Refused, Sent, heads_root
from fedprofile.governance.audit_log import EVERY, AuditLog
from fedprofile.governance.chain import START
from fedprofile.governance.merkle import prove, verify_inclusion
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.wire import ZERO_HASH

ME = Identity.from_seed(bytes(32))
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def open_log(tmp_path, clock):
    def make(folder=tmp_path, **changes):
        return AuditLog(folder, **({"party": "tax", "identity": ME, "clock": clock} | changes))

    return make


def refused(n):
    return Refused("bad_order", f"request {n}")


def test_the_first_line_says_whose_log_it_is(open_log):
    log = open_log()
    assert log.head == START
    log.write(refused(1), Left())
    assert [r["event"] for r in log.chain] == ["begun", "refused", "left"]
    assert next(iter(log.chain)) == {"event": "begun", "party": "tax", "key": ME.sign_pk.hex(), "at": 1000}
    assert log.chain.verify(ME.sign_pk) == log.head


def test_times_never_go_back_and_a_simulated_log_has_none(open_log, clock, tmp_path):
    log = open_log()
    log.write(refused(1))
    clock.time = 400
    open_log().write(refused(2))
    assert [r["at"] for r in log.chain] == [1000, 1000, 1000]
    (tmp_path / "sim").mkdir()
    simulated = open_log(tmp_path / "sim", clock=None)
    simulated.write(refused(1))
    assert not any("at" in r for r in simulated.chain)


def test_a_checkpoint_every_256_lines_and_at_the_end_of_a_run_proves_one_line(open_log):
    log = open_log()
    for n in range(0, EVERY - 10, 10):
        log.write(*map(refused, range(n, n + 10)))
    assert not any(r["event"] == "checkpoint" for r in log.chain)
    log.write(*map(refused, range(10)))
    log.write(Sent("finished", "finish", 20, 0), checkpoint=True)
    lines = list(log.chain.lines())
    points = [(head.seq, r) for head, r in lines if r["event"] == "checkpoint"]
    assert [(seq, r["size"]) for seq, r in points] == [(262, 261), (264, 263)]
    leaves = [head.hash for head, _ in lines]
    for _, point in points:
        proof = prove(leaves[: point["size"]], 41)
        assert len(proof) == 9
        assert verify_inclusion(leaves[41], 41, point["size"], proof, bytes.fromhex(point["root"]))


def test_a_false_checkpoint_is_refused_though_it_is_signed(open_log):
    log = open_log()
    log.write(refused(1))
    log.chain.append(Checkpoint(2, "00" * 32).to_record())
    with pytest.raises(DataError, match=r"line 3: the checkpoint is not of the lines before it"):
        open_log().refresh()


@pytest.mark.parametrize("keep_head", [True, False])
def test_a_process_that_saw_more_refuses_an_older_log(open_log, tmp_path, keep_head):
    log = open_log()
    log.write(refused(1))
    shutil.copytree(tmp_path, tmp_path / "old", ignore=shutil.ignore_patterns("old"))
    log.write(refused(2))
    for name in ["audit.jsonl", *([] if keep_head else ["audit.head"])]:
        shutil.copy(tmp_path / "old" / name, tmp_path / name)
    message = "lines were cut" if keep_head else "the log was put back: it ends at line 2, and line 3"
    with pytest.raises(DataError, match=message):
        log.write(refused(3))


def test_another_history_of_the_same_length_is_refused(open_log, tmp_path):
    log = open_log()
    log.write(refused(1))
    for name in ("audit.jsonl", "audit.head"):
        (tmp_path / name).unlink()
    open_log().write(refused(2))
    with pytest.raises(DataError, match="was put back"):
        log.refresh()


def test_two_processes_write_one_log(open_log):
    one, two = open_log(), open_log()
    for n in range(4):
        (one, two)[n % 2].write(refused(n))
    one.refresh()
    assert one.head.seq == two.head.seq == 5


def test_the_log_of_another_party_or_key_is_refused(open_log):
    open_log().write(refused(1))
    with pytest.raises(DataError, match="line 1"):
        open_log(party="bank").refresh()
    with pytest.raises(DataError, match="signature is not the holder's"):
        open_log(identity=Identity.from_seed(b"\1" * 32)).refresh()


def _write_until_full(folder, size):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    log = AuditLog(folder, "tax", ME, None)
    try:
        for n in range(1000):
            log.write(refused(n))
    except OSError:
        os._exit(7)


def test_a_full_disk_leaves_the_log_as_it_was(open_log, tmp_path):
    process = SPAWN.Process(target=_write_until_full, args=(tmp_path, 4000))
    process.start()
    process.join(60)
    assert process.exitcode == 7
    log = open_log()
    log.refresh()
    held = log.head.seq
    log.write(refused(0))
    assert (log.head.seq, log.chain.verify(ME.sign_pk)) == (held + 1, log.head)


def _write_for_ever(folder):
    log = AuditLog(folder, "tax", ME, None)
    for n in range(1_000_000):
        log.write(refused(n), refused(n + 1))


def test_a_killed_writer_leaves_whole_appends(open_log, tmp_path):
    process = SPAWN.Process(target=_write_for_ever, args=(tmp_path,))
    process.start()
    while not (tmp_path / "audit.jsonl").exists() or (tmp_path / "audit.jsonl").stat().st_size < 20_000:
        assert process.is_alive()
    process.kill()
    process.join()
    log = open_log()
    log.write(refused(0))
    assert (log.head.seq - 2) % 2 == 0
    assert log.chain.verify(ME.sign_pk) == log.head


@pytest.mark.parametrize("watched", [False, True], ids=["a new process", "one that was there"])
def test_a_writer_killed_before_it_wrote_the_head_stops_nobody(open_log, tmp_path, watched):
    log = open_log()
    log.write(refused(1))
    pin = (tmp_path / "audit.head").read_bytes()
    open_log().write(refused(2))
    (tmp_path / "audit.head").write_bytes(pin)
    if not watched:
        log = open_log()
    log.refresh()
    log.write(refused(3))
    assert (log.head.seq, log.chain.verify(ME.sign_pk)) == (4, log.head)


def test_a_root_names_every_party_and_head():
    heads = {"bank": b"b" * 32, "tax": b"t" * 32}
    assert heads_root({}) == ZERO_HASH
    assert heads_root(heads) == heads_root(dict(reversed(heads.items())))
    others = ({"bank": heads["tax"], "tax": heads["bank"]}, {"bank": heads["bank"]}, {**heads, "tax": b"u" * 32})
    assert len({heads_root(heads), *map(heads_root, others)}) == 4
