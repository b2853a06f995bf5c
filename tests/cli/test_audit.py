"""`fedprofile audit …` as it is typed: what is checked, what is wrong with which line, and the report."""

from __future__ import annotations

import json
import time

import pytest

from fedprofile.cli.main import main
from fedprofile.governance.audit import Refused
from fedprofile.governance.audit_log import AuditLog
from fedprofile.node.audit import record
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.secagg.identity import Identity

SEED = bytes(32)
KEY = Identity.from_seed(SEED).sign_pk.hex()


@pytest.fixture
def folder(tmp_path):
    log = AuditLog(tmp_path, "tax", Identity.from_seed(SEED), lambda: int(time.time()))
    for n in range(3):
        log.write(Refused("bad_order", f"r{n}"))
    return tmp_path


def typed(capsys, *words, code=0):
    capsys.readouterr()
    assert main([str(w) for w in words]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_a_good_log_is_0_and_says_what_was_verified(folder, capsys):
    head = json.loads((folder / "audit.head").read_text())["hash"]
    out = typed(capsys, "audit", "verify", folder, "--key", KEY, "--head", head)
    for said in ("4, numbered without a gap", f"good, key {KEY} (given)", "1 that others hold", head, "none"):
        assert said in out
    facts = json.loads(typed(capsys, "audit", "verify", folder, "--json"))
    assert (facts["ok"], facts["lines"], facts["head"], facts["key_given"]) == (True, 4, head, False)


def test_a_damaged_log_is_1_with_its_line(folder, capsys):
    path = folder / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"r1", b"r7"))
    assert "audit.jsonl, line 3: the line was changed" in typed(capsys, "audit", "verify", folder, code=1)
    out = folder / "report.html"
    assert "line 3" in typed(capsys, "audit", "report", folder, "--quarter", "2026Q4", "--out", out, code=1)
    assert not out.exists(), "nothing is reported from a log that does not hold"


def test_another_head_or_key_is_refused(folder, capsys):
    assert "is held by others" in typed(capsys, "audit", "verify", folder, "--head", "ab" * 32, code=1)
    assert "signature" in typed(capsys, "audit", "verify", folder, "--key", "ab" * 32, code=1)
    assert "64 hexadecimal digits" in typed(capsys, "audit", "verify", folder, "--head", "zz", code=2)
    assert "there is no audit.jsonl" in typed(capsys, "audit", "verify", folder / "x", code=2)


def test_the_report_of_the_quarter_in_which_it_is_written(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    now = time.gmtime()
    quarter = f"{now.tm_year}Q{(now.tm_mon + 2) // 3}"
    facts = json.loads(typed(capsys, "audit", "report", "--quarter", quarter, "--out", "r.html", "--json"))
    assert facts["refusals"] == 3
    assert "bad_order" in (folder / "r.html").read_text()
    assert "is no quarter" in typed(capsys, "audit", "report", "--quarter", "4", "--out", "r.html", code=2)


def test_a_nodes_own_log(tmp_path, capsys):
    home = NodeHome.create(tmp_path / "home", NodeConfig("tax", "tax", "bank", "own", "ledger"))
    assert "there is no audit.jsonl" in typed(capsys, "node", "audit", home.path, code=2)
    record(home, Refused("bundle_not_allowed", "flower"))
    out = typed(capsys, "node", "audit", home.path)
    assert "2, numbered without a gap" in out
    facts = json.loads(typed(capsys, "node", "audit", home.path, "--json"))
    assert (facts["refusals"], facts["left"]) == (1, [])
    (home.path / "audit.head").unlink()
    (home.path / "audit.jsonl").write_bytes(b"")
    assert "line 1" in typed(capsys, "node", "audit", home.path, code=1)
