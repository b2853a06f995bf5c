"""The stand-alone verifier against every kind of damage: nothing is missed, and the line is named."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys

import pytest

from fedprofile.errors import DataError, FedprofileError
from fedprofile.governance.audit import Heads, Refused, Sent
from fedprofile.governance.audit_log import AuditLog
from fedprofile.governance.audit_verify import heads_of, verify_log, verify_shown
from fedprofile.secagg.identity import Identity

ME, OTHER = Identity.from_seed(bytes(32)), Identity.from_seed(b"\1" * 32)
FLIPS = 250


def write(folder, party="tax", who=ME, appends=8):
    folder.mkdir(exist_ok=True)
    log = AuditLog(folder, party, who, lambda: 1_790_000_000)
    for n in range(appends):
        log.write(Refused("bad_order", f"r{n}"), Sent("error", f"r{n}", 90 + n, 1, "ab" * 32), checkpoint=n % 3 == 2)
    return log


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "log")
    return tmp_path / "log"


def test_a_good_log(folder):
    done = verify_log(folder, ME.sign_pk)
    assert (done.party, done.head.seq, done.checkpoints, done.covered, done.rest) == ("tax", 19, 2, 14, 0)
    assert done.events == {"begun": 1, "refused": 8, "sent": 8, "checkpoint": 2}
    for said in (
        "19, numbered without a gap",
        "good, key",
        "2, the last one over 14 lines",
        "2026-",
        done.head.hash.hex(),
    ):
        assert said in done.to_text()
    assert "compare it with the roster" in verify_log(folder).to_text()


def test_it_runs_alone_with_nothing_heavy(folder):
    code = (
        "import runpy, sys; sys.argv = ['audit_verify', sys.argv[1]]\n"
        "runpy.run_module('fedprofile.governance.audit_verify', run_name='__main__')\n"
        "print(*{'torch', 'flwr', 'polars', 'pandas', 'mlflow', 'ray', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    assert "numbered without a gap" in done.stdout
    (folder / "audit.jsonl").write_bytes((folder / "audit.jsonl").read_bytes().replace(b"r3", b"r4", 1))
    failed = subprocess.run(
        [sys.executable, "-m", "fedprofile.governance.audit_verify", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: audit.jsonl, line 9: the line was changed")


def found(folder):
    """What the verifier says of a damaged log, "" where it notices nothing."""
    try:
        verify_log(folder, ME.sign_pk)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["audit.jsonl", "audit.head"])
def test_no_flipped_byte_is_missed(folder, name):
    """A longer hunt takes FLIPS = 10_000."""
    draw, good, wrong = random.Random(1), (folder / name).read_bytes(), []
    for _ in range(FLIPS):
        at, bit = draw.randrange(len(good) - 1), draw.randrange(1, 256)
        (folder / name).write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        line = good[:at].count(10) + 1
        if (f"line {line}:" if name == "audit.jsonl" else ":") not in found(folder):
            wrong.append((at, bit))
    assert not wrong


def rewrite(folder, change):
    lines = (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "audit.jsonl").write_bytes(b"".join(change(lines)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ls: ls[:-1], "line 18: lines were cut"),
        (lambda ls: [*ls[:4], *ls[5:]], "line 5: the line"),
        (lambda ls: [*ls[:4], ls[5], ls[4], *ls[6:]], "line 5: the line"),
        (lambda ls: [*ls[:4], ls[3], *ls[4:]], "line 5: the line"),
        (lambda ls: [*ls[:-1], ls[-1][:-1]], "lines were cut"),
        (lambda ls: [*ls[:6], b"{}\n", *ls[7:]], "line 7: not a line of a chain"),
        (lambda ls: [], "line 1: not the beginning"),
    ],
    ids=["cut", "removed", "swapped", "repeated", "torn", "emptied", "all gone"],
)
def test_a_changed_log_is_named_by_its_line(folder, change, said):
    rewrite(folder, change)
    with pytest.raises(DataError, match=said):
        verify_log(folder, ME.sign_pk)


def test_a_tail_cut_with_its_head_shows_against_a_head_that_others_hold(folder):
    last = verify_log(folder).head.hash
    rewrite(folder, lambda ls: ls[:-2])
    (folder / "audit.head").unlink()
    assert "no head file" in verify_log(folder, ME.sign_pk).to_text()
    with pytest.raises(DataError, match=r"line 18: head .* is held by others and is no line here"):
        verify_log(folder, ME.sign_pk, [last])


def test_an_unfinished_write_is_said_and_is_no_damage(folder):
    with open(folder / "audit.jsonl", "ab") as file:
        file.write(b'{"half":')
    done = verify_log(folder, ME.sign_pk)
    assert done.rest == 8
    assert "8 bytes of an unfinished write" in done.to_text()


def test_a_rewritten_history_is_another_heads(folder, tmp_path):
    """Whoever holds the key can write a new log that is good in itself; who holds an old head knows better."""
    seen = verify_log(folder).head.hash
    shutil.rmtree(folder)
    log = AuditLog((tmp_path / "log"), "tax", ME, lambda: 1_790_000_001)
    folder.mkdir()
    log.write(Refused("bad_order", "r0"))
    assert verify_log(folder, ME.sign_pk).head.seq == 2
    with pytest.raises(DataError, match="it is a fork"):
        verify_log(folder, ME.sign_pk, [seen])


def test_another_key_is_refused(folder):
    with pytest.raises(DataError, match=r"line 3: the signature is not the holder's"):
        verify_log(folder, OTHER.sign_pk)


def test_a_log_against_what_a_partner_holds_of_it(folder, tmp_path):
    theirs = write(tmp_path / "bank", "bank", OTHER, appends=1)
    shown = [h for h, _ in AuditLog(folder, "tax", ME, None).chain.lines() if h.signature][3].hash
    theirs.write(Heads("aa" * 32, 2, "bb" * 32, {"tax": shown.hex(), "shop": "00" * 32}))
    assert heads_of("tax", tmp_path / "bank") == {shown}
    assert verify_shown(folder, ME.sign_pk, (), tmp_path / "bank").heads == 1
    theirs.write(Heads("aa" * 32, 3, "bb" * 32, {"tax": "cc" * 32}))
    with pytest.raises(DataError, match="it is a fork"):
        verify_shown(folder, ME.sign_pk, (), tmp_path / "bank")


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[]\n", b"\xff\n", json.dumps({"record": {"event": "x"}}).encode()])
def test_what_is_no_log_is_said(tmp_path, content):
    with pytest.raises(FedprofileError, match=r"there is no audit\.jsonl"):
        verify_log(tmp_path)
    (tmp_path / "audit.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="line 1"):
        verify_log(tmp_path)
