"""The signed end of a deletion request (PIPL 47, GDPR 17).

What a certificate proves: the holder of the key says, so that it cannot be denied later and with the ledger's head at
that moment, that this pseudonym asked to be deleted; which run was the last one trained with its row here; which later
run for the same purpose was the first one trained without it; and whether the row still lies in the stored table. The
runs' customers are what the node wrote down, and its ledger signed, before each run's first update left.

What it does not prove: that the last model has forgotten the person (it has not; it has to be retired), that other
parties deleted anything, or that a holder who lies to its own ledger tells the truth. Only the home can make the
pseudonym from an id, so it also says to the person, on request, which certificate is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedprofile.errors import DataError, ProtocolError, UsageError
from fedprofile.governance.chain import Record
from fedprofile.governance.ledger import ConsentLedger
from fedprofile.governance.subjects import Subjects, to_bytes
from fedprofile.secagg.identity import verify
from fedprofile.types import canonical, digest

FORMAT = "fedprofile/deletion-certificate/1"
_SIGNED = "deletion-certificate"


@dataclass(frozen=True)
class Run:
    """A run as the ledger noted it (``trained``), and whether the person's row was among those it trained with."""

    note: Record
    with_person: bool


def requested_at(ledger: ConsentLedger, subject: Subjects) -> int:
    """When the person, (1, 2), asked first. Raises UsageError where they did not."""
    times = [at for subjects, at in ledger.refresh().deletions if (subjects == subject).all(axis=1).any()]
    if not times:
        raise UsageError("no deletion was requested for this customer", "Run `fedprofile consent delete` first.")
    return min(times)


def certify(ledger: ConsentLedger, subject: Subjects, runs: Sequence[Run], row_held: bool) -> dict[str, Any]:
    """A signed certificate for one person, (1, 2); ``runs`` in the order of the ledger. It is noted in the ledger.

    ``first_without`` stays null until a run for the same purpose has trained without the person: issue it again then.
    """
    asked = requested_at(ledger, subject)
    used = [i for i, run in enumerate(runs) if run.with_person]
    last = runs[used[-1]].note if used else None
    later = runs[used[-1] + 1 :] if used else ()
    without = next((r.note for r in later if last and r.note["purpose"] == last["purpose"]), None)
    body = {
        "format": FORMAT,
        "holder": ledger.holder,
        "subject": to_bytes(subject).hex(),
        "requested_at": asked,
        "issued_at": ledger.now(),
        "ledger": {"seq": ledger.head.seq, "hash": ledger.head.hash.hex()},
        "last_model": _named(last),
        "first_without": _named(without),
        "row_held": row_held,
    }
    mark = digest("deletion-certificate/1", canonical(body))
    ledger.note("certificate", subject=body["subject"], certificate=mark.hex())
    return {**body, "signature": ledger.identity.sign(_SIGNED, mark).hex()}


def verify_certificate(data: bytes, public_key: bytes, file: str = "the certificate") -> dict[str, Any]:
    """What the certificate says. Raises DataError unless the holder of ``public_key`` signed exactly this."""
    mend = "Ask the holder for the certificate again, and compare the key's fingerprint."
    try:
        body = json.loads(data)
        signature = bytes.fromhex(body.pop("signature"))
        if body["format"] != FORMAT:
            raise ValueError("format")
        verify(public_key, _SIGNED, digest("deletion-certificate/1", canonical(body)), signature)
    except ProtocolError:
        raise DataError(file, "the signature is not the holder's", mend) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(file, "not a deletion certificate", mend) from None
    return dict(body)


def _named(note: Record | None) -> dict[str, Any] | None:
    return None if note is None else {k: note[k] for k in ("run", "plan", "purpose", "at")}
