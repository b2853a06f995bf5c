"""The model card: what bundle, gate report and log hold of a version, in the words that supervisors use.

Nothing is filled in that these do not hold: a reader sees *unknown*, and the owner what is still to be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedprofile.governance.approvals import Approval
from fedprofile.governance.promotion import Release, State
from fedprofile.registry.bundle import Bundle, open_bundle
from fedprofile.registry.home import Registry
from fedprofile.registry.serving import served
from fedprofile.registry.views import day, history, sentence

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Section:
    """``duty``: which rule asks for it. ``rows``: name and value; ``table``: a head, then rows of as many cells."""

    title: str
    duty: str
    rows: tuple[tuple[str, str], ...]
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Card:
    title: str
    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, Any]:
        sections = [
            {"title": s.title, "duty": s.duty, "facts": dict(s.rows), "table": [list(row) for row in s.table]}
            for s in self.sections
        ]
        return {"title": self.title, "sections": sections}


def card(registry: Registry, state: State, manifest: str) -> Card:
    """The card of a version whose bundle is on the shelf; the gate parts are unknown where no gate has seen it."""
    release = state.releases.get(manifest)
    registry.shelf.read(manifest, release.trainer if release else None)
    bundle = open_bundle(registry.shelf.folder(manifest))
    name = release.name if release else manifest[:12]
    return Card(
        f"{registry.model}, {name}",
        (
            _inventory(registry, state, manifest, release),
            _purpose(bundle),
            _data(bundle.meta),
            _privacy(bundle.meta),
            _trained(bundle.meta),
            _gates(release),
            _limits(bundle, release),
            _explanation(bundle),
            _decisions(state, release),
            _record(registry, manifest),
        ),
    )


def _inventory(registry: Registry, state: State, manifest: str, release: Release | None) -> Section:
    trainer = state.staff.holder(bytes.fromhex(release.trainer)) if release else None
    before = release.champion if release else None
    rows = (
        ("model", registry.model),
        ("version in MLflow", release.version or "none" if release else UNKNOWN),
        ("stage", state.stage(manifest) if release else "not judged"),
        ("bundle (SHA-256 of its manifest)", manifest),
        ("developed by", trainer.id if trainer else UNKNOWN),
        ("compared with champion", before[:12] if before else "none" if release else UNKNOWN),
        ("risk tier of the model", UNKNOWN),
        ("owner", UNKNOWN),
    )
    return Section("Inventory", "SR 26-2: model inventory; EU AI Act Annex IV 1", rows)


def _purpose(bundle: Bundle) -> Section:
    outputs = "; ".join(
        f"{t.name}: {'probability of ' + str(t.classes) + ' ordered levels' if t.kind == 'ordinal' else 'probability'}"
        for t in bundle.tasks
    )
    rows = (
        ("purpose", _known(bundle.meta, "purpose")),
        ("outputs", outputs),
        ("who is scored", "customers of the label owner; a row without partners' scores gets the bank-alone score"),
        ("with partners or without", served(bundle.meta)),
        ("decisions taken with it", UNKNOWN),
    )
    return Section("Purpose", "EU AI Act Annex IV 1(a); PIPL Art. 6", rows)


def _data(meta: Mapping[str, Any]) -> Section:
    rows = (
        ("roles of partners", ", ".join(meta["roles"]) or "none"),
        ("digest of the training data", _known(meta, "data")),
        ("data contract of the label owner", _known(meta, "contract")),
        ("consents", _known(meta, "consent")),
        ("training run", _known(meta, "run")),
        ("configuration (SHA-256)", _known(meta, "config_sha256")),
        ("code", _known(meta, "code")),
        ("champion that it was to follow", _known(meta, "parent")),
        ("shared weights that it began from", _known(meta, "start")),
    )
    return Section("Data and consent", "EU AI Act Art. 10, Annex IV 2(d); PIPL Arts. 13, 23, 29", rows)


def _privacy(meta: Mapping[str, Any]) -> Section:
    eps, total = meta.get("label_eps", UNKNOWN), meta.get("label_eps_total", UNKNOWN)
    rows = (
        ("label ε per customer and task", "none: true labels, by explicit choice" if eps is None else str(eps)),
        ("label ε per customer, all tasks", "none" if total is None else str(total)),
        ("secure sum", _known(meta, "secure")),
        *((f"encoder of {party}", _known(meta["encoders"], party)) for party in meta.get("encoders", {})),
        ("red team", UNKNOWN),
    )
    return Section("Privacy and security", "EU AI Act Art. 15; PIPL Art. 51", rows)


def _trained(meta: Mapping[str, Any]) -> Section:
    """As the training run judged it, on its own test customers."""
    head = ("task", "model", "metric", "value", "95 % interval")
    rows = [
        (task, model, metric, _number(value), _interval(measured["intervals"].get(metric)))
        for task, models in meta.get("metrics", {}).items()
        for model, measured in models.items()
        for metric, value in measured.items()
        if metric != "intervals" and value is not None
    ]
    told = (("test customers", "the label owner's own"),) if rows else (("metrics", UNKNOWN),)
    return Section("Measured in training", "EU AI Act Art. 15, Annex IV 2(g)", told, (head, *rows) if rows else ())


def _gates(release: Release | None) -> Section:
    duty = "SR 26-2: validation and outcomes analysis; EU AI Act Annex IV 2(g)"
    if release is None:
        return Section("Gates", duty, (("gates", UNKNOWN),))
    rows = (("gates", "passed" if release.passed else "failed"), ("report (SHA-256)", release.report))
    answers = {True: "passed", False: "failed", None: "not applicable"}
    found = [(f.gate, answers[f.passed], _number(f.value), _number(f.bar), f.reason) for f in release.verdict.findings]
    return Section("Gates", duty, rows, (("gate", "answer", "value", "bar", "reason"), *found) if found else ())


def _limits(bundle: Bundle, release: Release | None) -> Section:
    findings = release.verdict.findings if release else ()
    open_ = [f.gate for f in findings if f.passed is None]
    failed = [f.gate for f in findings if f.passed is False]
    rows = (
        ("gates that failed", ", ".join(failed) or ("none" if findings else UNKNOWN)),
        ("not judged", ", ".join(open_) or ("nothing" if findings else UNKNOWN)),
        ("statements of the training run", "; ".join(bundle.meta.get("statements", ())) or UNKNOWN),
        ("use outside its purpose", "not judged by any gate"),
    )
    return Section("Limits", "SR 26-2: limitations; EU AI Act Annex IV 3", rows)


def _explanation(bundle: Bundle) -> Section:
    rows = (
        ("inputs of the bank", ", ".join(bundle.schema.columns)),
        (
            "inputs of partners",
            "one sum of log-odds a task, opened by the bank alone, and which roles know the customer",
        ),
        ("how a person refuses a decision made by machine alone", UNKNOWN),
        ("who explains a score to a customer", UNKNOWN),
    )
    return Section("Explanation to the customer", "PIPL Art. 24; EU AI Act Arts. 13, 86", rows)


def _decisions(state: State, release: Release | None) -> Section:
    duty = "SR 26-2: effective challenge; EU AI Act Art. 14"
    given = release.approvals if release else ()
    rows = [(a.person, a.role, a.decision, day(a.made), day(a.expires), _about(a, release)) for a in given if release]
    head = ("person", "role", "decision", "signed", "holds until", "about")
    return Section("Approvals", duty, (("given", str(len(rows))),), (head, *rows) if rows else ())


def _about(given: Approval, release: Release) -> str:
    return "this gate report" if given.report == release.report else "an earlier gate report"


def _record(registry: Registry, manifest: str) -> Section:
    state, lines = history(registry)
    about = [line for line in lines if line.get("manifest") == manifest]
    rows = (("log", f"{state.head.seq} lines, all checked"), ("head", state.head.hash.hex()))
    told = tuple((sentence(line, state).strip(),) for line in about)
    return Section("Record", "EU AI Act Art. 12; SR 26-2: documentation", rows, (("line",), *told) if told else ())


def _known(meta: Mapping[str, Any], name: str) -> str:
    """A fact of the bundle in words; of one that does not exist, why."""
    found = meta.get(name)
    if not isinstance(found, Mapping):
        return UNKNOWN if found in (None, "") else str(found)
    told = [f"{key} {value}" for key, value in found.items() if value is not None and key != "reason"]
    return "; ".join(told) or str(found.get("reason") or UNKNOWN)


def _interval(pair: Sequence[float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.4g} to {pair[1]:.4g}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
