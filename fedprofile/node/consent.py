"""Consent at a node: the ledger, permit and vault of its home, and which rows a run may still use.

A revocation takes effect from the next message on: before each one the node asks its permit again, and a row whose
permit has ended leaves the run for good, even if consent should come back: batches, gains and scores are made without
it, and its slot in the spine carries zeros. A retry must repeat the integers of the first attempt (secure-sum 9.3), so
where a row that made them has left since, the retry is refused and the run ends there; nothing more is sent with it.

What this does not reach: a label or update that had left the node before, and labels of this customer that the label
owner released to others; they stay in use until the run ends. Where two nodes knew a customer and one of them lost
its permit before the score sum, the sum holds the other's score alone; the label owner cannot tell that from silence.
Whoever sees the sums of a run with a person and of the next one without can compare them: only differential privacy
bounds what that tells.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedprofile.errors import DataError
from fedprofile.governance.consents import Wanted
from fedprofile.governance.envelope import Vault
from fedprofile.governance.ledger import FILE, ConsentLedger
from fedprofile.governance.permits import LedgerPermit, Permit, permit_named
from fedprofile.governance.subjects import Subjects, from_bytes, pseudonyms, to_bytes
from fedprofile.node.home import NodeHome
from fedprofile.secagg.codes import refusal
from fedprofile.secagg.identity import Identity
from fedprofile.types import RunPlan, canonical, digest

_LEFT, _BASIS, _TRAINED = "withdrawn.safetensors", "permitted.json", "trained"


def ledger_of(home: NodeHome) -> ConsentLedger:
    """The consent ledger in the home's key folder, there or not."""
    identity = Identity.from_seed(home.derive("identity"))
    return ConsentLedger(home.keys / FILE, home.config.party, identity, home.derive("consent-subject"))


def permit_of(home: NodeHome, purpose: str, recipient: str = "") -> Permit:
    """What the home's configuration names: everybody (``simulated``), or who the ledger allows for this purpose.

    ``recipient``: the label owner of the roster under which data is used; "" for the one that was signed last.
    """
    config = home.config
    wanted = Wanted(purpose, config.party, recipient or config.label_owner, config.data_classes)
    return permit_named(config.consent, lambda: LedgerPermit(ledger_of(home), wanted))


def ledger_head(permit: Permit) -> tuple[str | None, int | None]:
    """Hash and length of the ledger that a permit asked last; None for a simulated one."""
    if not isinstance(permit, LedgerPermit):
        return None, None
    head = permit.ledger.head
    return head.hash.hex(), head.seq


def vault_of(home: NodeHome) -> Vault:
    return Vault(home.config.party, home.derive("column-kek"))


def withdrawn(home: NodeHome) -> npt.NDArray[np.int64]:
    """Rows of the table whose permit ended since this run has aligned."""
    held = home.read_arrays(_LEFT)
    return np.zeros(0, dtype=np.int64) if held is None else held["rows"]


def withdraw(home: NodeHome, rows: npt.NDArray[np.int64]) -> None:
    """Keep rows out for the rest of the run."""
    if len(rows):
        home.write_arrays(_LEFT, {"rows": np.union1d(withdrawn(home), rows)})


def bind(home: NodeHome, what: str, t: int, slots: npt.NDArray[np.int64]) -> None:
    """Remember of whose rows this sum's (or release's) numbers are made, before they are made.

    Raises PolicyRefusal("consent_changed") where the first attempt was made of other customers' rows.
    """
    mark = digest("permitted/1", slots.astype("<i8").tobytes()).hex()
    held = json.loads(home.read(_BASIS) or b"{}")
    if held.get(what, [None])[0] == t and held[what][1] != mark:
        raise refusal("consent_changed", "the first attempt was made with a row whose permit has ended")
    if held.get(what) != [t, mark]:
        home.write(_BASIS, canonical(held | {what: [t, mark]}))


def remember_trained(home: NodeHome, plan: RunPlan, permit: Permit, ids: npt.NDArray[np.str_]) -> None:
    """Write down, before the first update leaves, with whom a run is trained; once a run, where there is a ledger.

    The pseudonyms stay in the key folder, sorted, 16 bytes each; the ledger signs their digest and number.
    """
    if not isinstance(permit, LedgerPermit):
        return
    file, ledger = _trained_file(home, plan.run_id), permit.ledger
    if any(record["run"] == plan.run_id.hex() for record in ledger.noted("trained")):
        return
    subjects = pseudonyms(ids, ledger.subject_key)
    data = to_bytes(subjects[np.lexsort((subjects[:, 1], subjects[:, 0]))])
    file.parent.mkdir(exist_ok=True, mode=0o700)
    home.write_key_file(file, data)
    facts = {"run": plan.run_id.hex(), "plan": plan.hash.hex(), "purpose": plan.purpose}
    ledger.note("trained", **facts, customers=len(ids), digest=hashlib.sha256(data).hexdigest())


def trained_with(home: NodeHome, run_id: bytes, expected: str) -> Subjects:
    """(n, 2) pseudonyms of a run's customers. Raises DataError where the file is not the one the ledger signed."""
    file = _trained_file(home, run_id)
    data = file.read_bytes() if file.exists() else b""
    if hashlib.sha256(data).hexdigest() != expected:
        raise DataError(file.name, "the record of a run's customers was changed or lost", "Restore it from the backup.")
    return from_bytes(data)


def _trained_file(home: NodeHome, run_id: bytes) -> Path:
    return home.keys / _TRAINED / f"{run_id.hex()}.subjects"
