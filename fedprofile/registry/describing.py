"""What a bundle says of itself: public facts about how the model was made; no path, no value of a row.

Layout, preprocessing and calibration are the model's own body in bundle.json; here is what its files cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fedprofile.label_owner.evaluate import Fusion
from fedprofile.label_owner.home import read_fold
from fedprofile.models.metrics import METRICS
from fedprofile.node.consent import ledger_of
from fedprofile.node.encoders import finished_run
from fedprofile.node.home import NodeHome
from fedprofile.node.snapshot import quality_figure, read_record
from fedprofile.registry.provenance import git_commit
from fedprofile.registry.reference import make_reference
from fedprofile.types import Roster, RunPlan

_SIMULATED_DATA = "the data were simulated: no snapshot was taken under a contract"
_SIMULATED_CONSENT = "consent was simulated: there is no ledger"
_UNACKNOWLEDGED = "the label owner's home holds no word of the party on this run: it did not finish at all parties"


@dataclass(frozen=True)
class Origin:
    """What only the caller knows. parent: hex manifest hash of the champion that this model is to follow.

    extra: further public facts.
    """

    parent: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def describe_model(
    home: NodeHome, plan: RunPlan, roster: Roster, fusion: Fusion, tasks: Mapping[str, Any], origin: Origin
) -> dict[str, Any]:
    """``meta`` of a bundle, from the label owner's home and section ``tasks`` of the report.

    A fact that does not exist is None beside the reason why.
    """
    eps, data = plan.label_eps, fusion.data
    return {
        **origin.extra,
        "roles": list(fusion.data.roles),
        "run": {"id": plan.run_id.hex(), "plan": plan.hash.hex(), "roster": roster.hash.hex(), "seed": plan.seed},
        "plan": plan.hash.hex(),
        "purpose": plan.purpose,
        "fold": read_fold(home),
        "tasks": [
            {"name": t.name, "kind": t.kind, "classes": t.classes, "levels": tasks[t.name]["levels"]}
            for t in plan.tasks
        ],
        # The likeliest class; other thresholds would be another bundle.
        "thresholds": {t.name: [1 / t.classes] * t.classes for t in plan.tasks},
        "label_eps": eps,
        "label_eps_total": None if eps is None else eps * len(plan.tasks),
        "secure": home.config.profile,
        "contract": _contract(home),
        "consent": _consent(home),
        "encoders": _encoders(home, plan, roster),
        "code": {"commit": git_commit(), "version": _version()},
        "metrics": {name: {m: _measured(task["models"][m]) for m in _SHOWN} for name, task in tasks.items()},
        "parent": {"manifest": origin.parent, "reason": None if origin.parent else "no champion was named"},
        "start": {
            "hash": plan.start.hex() or None,
            "reason": None if plan.start else "new weights, from the plan's seed",
        },
        "reference": make_reference(fusion.fused, data.table, fusion.federated, data.train, data.valid).to_json(),
    }


_SHOWN = ("federated", "bank_alone")


def _measured(model: Mapping[str, Any]) -> dict[str, Any]:
    return {m: model[m] for m in METRICS} | {"intervals": model["intervals"]}


def _contract(home: NodeHome) -> dict[str, Any]:
    record = read_record(home.path)
    if record is None:
        return {"root": None, "reason": _SIMULATED_DATA}
    facts = {"root": record["contract"]["root"], "table": record["table"]["sha256"], "read_on": record["read_on"]}
    return facts | {"quality": quality_figure(home.path)}


def _consent(home: NodeHome) -> dict[str, Any]:
    if home.config.consent != "ledger":
        return {"root": None, "reason": _SIMULATED_CONSENT}
    ledger = ledger_of(home)
    ledger.refresh()
    return {"root": ledger.head.hash.hex(), "lines": ledger.head.seq}


def _encoders(home: NodeHome, plan: RunPlan, roster: Roster) -> dict[str, dict[str, str | None]]:
    """Each partner's word on the encoder that it keeps (``fedprofile.acknowledging``), checked when it came."""
    words = (finished_run(home, plan.hash) or {}).get("acknowledged", {})
    none = {"digest": None, "signature": None, "reason": _UNACKNOWLEDGED}
    partners = (p.id for p in roster.parties if p.id != roster.label_owner)
    return {party: none | ({**words[party], "reason": None} if party in words else {}) for party in partners}


def _version() -> str | None:
    try:
        return version("fedprofile")
    except PackageNotFoundError:
        return None
