"""The commands as their user types them, on a home with an encrypted table."""

import io
import json

import numpy as np
import pytest

from fedprofile.cli.main import main
from fedprofile.node.consent import vault_of
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.source import Sealing, write_table
from fedprofile.secagg.identity import Identity
from fedprofile.types import Table

HEAD = "id,kind,purpose,recipient,data_classes,text_version,channel,valid_from,valid_to"
SECRET = "ZHANG4711"


@pytest.fixture
def home(tmp_path):
    home = NodeHome.create(tmp_path / "home", NodeConfig("tax", "tax", "bank", "own", "ledger"))
    table = Table(np.array([SECRET, "B"]), {"income": np.array([98765.5, 2.0])})
    write_table(table, home.path / "table.parquet", Sealing(vault_of(home), {"income": "C3"}))
    rows = [
        f"{i},{k},tiering,{r},,v1,app,2026-01-01,"
        for i in (SECRET, "b")
        for k, r in (("grant", ""), ("authorisation", "bank"))
    ]
    (tmp_path / "c.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    (tmp_path / "id.txt").write_text(SECRET.lower() + "\n")
    return home


@pytest.fixture
def fp(tmp_path, home, capsys, monkeypatch):
    """Runs `fedprofile consent …`, checks the exit code and that no id is shown, and returns what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        assert main(["consent", *map(str, words)]) == code
        shown = capsys.readouterr()
        assert SECRET not in shown.out + shown.err
        if code:
            return shown.err
        return json.loads(shown.out) if "--json" in words else shown.out

    return run


def test_import_show_revoke_verify(fp, home, monkeypatch):
    assert "Run `fedprofile consent import`" in fp("show", "home", code=2)
    assert fp("import", "home", "c.csv", "--json") == {"rows": 4, "new": 4, "asked": True}
    assert fp("import", "home", "c.csv", "--json") == {"rows": 4, "new": 0, "asked": True}
    assert fp("show", "home", "--json")["purposes"] == [{"purpose": "tiering", "granted": 2, "authorised": {"bank": 2}}]
    monkeypatch.setattr("sys.stdin", type("In", (), {"buffer": io.BytesIO(b"B\n")}))
    fp("revoke", "home", "--ids", "-", "--recipient", "bank")
    assert fp("show", "home", "--json")["purposes"] == [{"purpose": "tiering", "granted": 2, "authorised": {"bank": 1}}]
    assert "warning" not in fp("revoke", "home", "--ids", "id.txt")
    (home.path.parent / "typo.txt").write_text("ZANG4711\n")
    assert fp("revoke", "home", "--ids", "typo.txt", "--json")["unknown"] == 1
    assert "warning: 1 of them never signed" in fp("revoke", "home", "--ids", "typo.txt")
    assert "1 live grants; 0 also for bank" in fp("show", "home")
    lines = fp("verify", "home", "--json")["lines"]
    assert lines == 7
    key = Identity.from_seed(home.derive("identity")).sign_pk.hex()
    assert "7 lines in order" in fp("verify", "home", "--key", key)
    assert "not the holder's" in fp("verify", "home", "--key", Identity.generate().sign_pk.hex(), code=1)
    assert "64 hexadecimal" in fp("verify", "home", "--key", "5f", code=2)


def test_a_ledger_that_nobody_asks_is_said_to_be_one(fp, home):
    file = home.path / "node.json"
    file.write_text(file.read_text().replace('"ledger"', '"simulated"'))
    for words in (("import", "home", "c.csv"), ("show", "home")):
        assert "the node does not ask this ledger" in fp(*words)


def test_a_changed_ledger_is_refused_by_line(fp, home):
    fp("import", "home", "c.csv")
    file = home.keys / "consent.jsonl"
    file.write_bytes(file.read_bytes().replace(b"tiering", b"tearing", 1))
    for words in (
        ("verify", "home"),
        ("show", "home"),
        ("import", "home", "c.csv"),
        ("revoke", "home", "--ids", "id.txt"),
    ):
        assert "consent.jsonl, line 2: the line was changed" in fp(*words, code=1)


def test_deletion_to_certificate(fp, home, tmp_path):
    fp("import", "home", "c.csv")
    assert "no deletion was requested" in fp("certificate", "issue", "home", "cert.json", "--ids", "id.txt", code=2)
    fp("delete", "home", "--ids", "id.txt")
    assert "last model trained with the person: none" in fp(
        "certificate", "issue", "home", "cert.json", "--ids", "id.txt"
    )
    key = Identity.from_seed(home.derive("identity")).sign_pk.hex()
    assert "The signature is the holder's" in fp("certificate", "verify", "cert.json", "--key", key)
    file = tmp_path / "cert.json"
    file.write_bytes(file.read_bytes().replace(b"true", b"false"))
    assert "not the holder's" in fp("certificate", "verify", "cert.json", "--key", key, code=1)
    (tmp_path / "two.txt").write_text("a\nb\n")
    assert "(2 rows)" in fp("certificate", "issue", "home", "x.json", "--ids", "two.txt", code=1)


def test_a_value_in_the_clear_takes_two_keys(fp, home):
    fp("import", "home", "c.csv")
    for name in ("li", "wang"):
        fp("custodian", "add", "home", name, fp("custodian", "new", f"{name}.key", "--json")["key"])
    assert "exists" in fp("custodian", "new", "li.key", code=2)
    words = ("break-glass", "request", "home", "r.json", "--ids", "id.txt", "--columns", "income")
    assert "court_order" in fp(*words, "--reason", "curious", code=2)
    fp(*words, "--reason", "complaint")
    for name in ("li", "li"):
        fp("break-glass", "approve", "r.json", "--name", name, "--key", f"{name}.key")
        assert "two different people" in fp("break-glass", "open", "home", "r.json", code=2)
    assert "no key file" in fp("break-glass", "approve", "r.json", "--name", "wang", "--key", "id.txt", code=2)
    fp("break-glass", "approve", "r.json", "--name", "wang", "--key", "wang.key")
    assert fp("break-glass", "open", "home", "r.json") == "income: 98765.5\n"
    assert "opened before" in fp("break-glass", "open", "home", "r.json", code=2)
    assert fp("show", "home", "--json")["break_glass_reads"] == 1
    fp("custodian", "revoke", "home", "wang")
    fp(*words, "--reason", "complaint")
    for name in ("li", "wang"):
        fp("break-glass", "approve", "r.json", "--name", name, "--key", f"{name}.key")
    assert "no registered custodian" in fp("break-glass", "open", "home", "r.json", code=2)
    assert oct((home.path.parent / "li.key").stat().st_mode)[-3:] == "600"
