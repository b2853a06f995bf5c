import fcntl

import numpy as np
import pytest

from fedprofile.errors import DataError, UsageError
from fedprofile.governance.break_glass import approve, register, request
from fedprofile.governance.consent_records import FOREVER, Terms
from fedprofile.governance.deletion import verify_certificate
from fedprofile.governance.permits import SimulatedPermit
from fedprofile.governance.subjects import pseudonyms
from fedprofile.node.audit import log_of
from fedprofile.node.consent import ledger_of, permit_of, remember_trained, vault_of
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.one_customer import deletion_certificate, open_in_the_clear
from fedprofile.node.source import Sealing, write_table
from fedprofile.secagg.identity import Identity
from fedprofile.types import Table, canonical

CUSTODIANS = {"li": Identity.from_seed(b"\1" * 32), "wang": Identity.from_seed(b"\2" * 32)}
TABLE = Table(
    np.array(["A", "B"]),
    {"income": np.array([1234.5, np.nan]), "job": np.array(["clerk", None], dtype=object), "age": np.array([30.0, 40])},
    frozenset({"job"}),
)


@pytest.fixture
def home(tmp_path):
    home = NodeHome.create(tmp_path / "home", NodeConfig("tax", "tax", "bank", "own", "ledger", ("job",)))
    write_table(TABLE, home.path / "table.parquet", Sealing(vault_of(home), {"income": "C3", "job": "C3"}))
    ledger = ledger_of(home)
    ledger.create()
    for name, identity in CUSTODIANS.items():
        register(ledger, name, identity.sign_pk)
    return home


def person(home, who="A"):
    return pseudonyms(np.array([who]), ledger_of(home).subject_key)


def asked(home, who="A", columns=("income", "job"), names=("li", "wang")):
    made = request(ledger_of(home), person(home, who), columns, "complaint", 24)
    return made, [approve(made, name, CUSTODIANS[name]) for name in names]


def events(home):
    ledger = ledger_of(home)
    ledger.refresh()
    return [r["event"] for r in ledger.notes]


def test_two_custodians_read_one_customers_columns_and_no_others(home):
    assert open_in_the_clear(home, *asked(home)) == {"income": 1234.5, "job": "clerk"}
    assert open_in_the_clear(home, *asked(home, "B", ("age", "income"))) == {"age": 40, "income": None}
    assert events(home)[-1] == "break-glass-open"


def test_the_audit_log_refers_to_the_record_of_a_read_and_names_nobody(home):
    made, approvals = asked(home)
    open_in_the_clear(home, made, approvals)
    ledger, line = ledger_of(home), list(log_of(home).chain)[-1]
    ledger.refresh()
    assert line.pop("at") > 0
    assert line == {
        "event": "break-glass", "request": made.hash.hex(), "columns": ["income", "job"], "reason": "complaint",
        "consent": ledger.head.hash.hex(), "consent_line": ledger.head.seq,
    }  # fmt: skip
    assert made.subject not in (home.path / "audit.jsonl").read_text()


def test_the_record_is_there_before_the_value_is_read(home, monkeypatch):
    seen = []

    def stop(*_):
        seen.append(events(home)[-1])
        raise RuntimeError("power cut")

    monkeypatch.setattr("fedprofile.node.one_customer.read_permitted", stop)
    made, approvals = asked(home)
    with pytest.raises(RuntimeError):
        open_in_the_clear(home, made, approvals)
    assert seen == ["break-glass-open"]
    with pytest.raises(UsageError, match="before"):
        open_in_the_clear(home, made, approvals)


def test_what_is_refused_is_recorded_and_reads_nothing(home, monkeypatch):
    monkeypatch.setattr("fedprofile.node.one_customer.read_permitted", None)
    with pytest.raises(UsageError, match="two different people"):
        open_in_the_clear(home, *asked(home, names=("li", "li")))
    assert events(home)[-1] == "break-glass-refused"
    for who, columns in (("C", ("income",)), ("A", ("wage",)), ("A", ("__id__",))):
        with pytest.raises(DataError):
            open_in_the_clear(home, *asked(home, who, columns))
    assert "break-glass-open" not in events(home)


def test_the_home_is_locked_while_a_request_is_spent(home, monkeypatch):
    def locked(*_):
        with open(home.keys / "lock", "w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr("fedprofile.governance.break_glass.spend", locked)
    open_in_the_clear(home, *asked(home))


def test_deletion_ends_in_a_certificate_of_the_runs_that_the_node_wrote_down(home, world):
    from dataclasses import replace

    plan = world.job.plan
    ledger = ledger_of(home)
    for kind in ("grant", "authorisation"):
        terms = Terms(kind, plan.purpose, "tax" if kind == "grant" else "bank", (), "v1", "app")
        ledger.sign_up(terms, person(home), np.full(1, 0), np.full(1, FOREVER))
    permit = permit_of(home, plan.purpose)
    runs = [replace(plan, run_id=bytes([i + 1]) * 32) for i in range(4)]
    remember_trained(home, runs[0], permit, np.array(["A", "B"]))
    remember_trained(home, runs[1], permit, np.array(["B", "A"]))
    remember_trained(home, runs[1], permit, np.array(["B"]))  # a run that goes on, one row less
    remember_trained(home, replace(plan, run_id=bytes(32)), SimulatedPermit(), np.array(["A"]))
    with pytest.raises(UsageError, match="no deletion"):
        deletion_certificate(home, person(home))
    ledger.request_deletion(person(home), "letter")
    first = deletion_certificate(home, person(home))
    assert (first["last_model"]["run"], first["first_without"]) == (runs[1].run_id.hex(), None)
    remember_trained(home, runs[2], permit, np.array(["B"]))
    remember_trained(home, runs[3], permit, np.array(["B"]))
    later = deletion_certificate(home, person(home))
    assert later["last_model"]["plan"] == runs[1].hash.hex()
    assert later["first_without"]["run"] == runs[2].run_id.hex()
    assert later["row_held"] is True
    key = Identity.from_seed(home.derive("identity")).sign_pk
    assert verify_certificate(canonical(later), key)["holder"] == "tax"
    write_table(TABLE.take(np.array([1])), home.path / "table.parquet")
    assert deletion_certificate(home, person(home))["row_held"] is False
