"""Gates of promotion: what was measured of a model against the bars that were agreed, as a pure function with reasons.

A gate never passes in silence: what was not measured, or could not be, fails or is "not applicable" (None), as the
settings say of that very gate. The measuring is somebody else's (``fedprofile.registry.evidence``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fedprofile.errors import ConfigError
from fedprofile.types import canonical

FORMAT = 1
Side = Literal["min", "max"]
End = Literal["value", "low", "high"]
Unknown = Literal["fail", "skip"]

GATES = (
    "auc",
    "auc_against_champion",
    "log_loss_against_champion",
    "calibration",
    "score_psi",
    "shadow_changed",
    "shadow_psi",
    "input_psi",
    "fairness",
    "views",
    "label_epsilon",
    "secure_profile",
    "data_quality",
    "data_age_days",
    "latency_ms",
    "size_mb",
    "flag_inputs",
    "flag_trunk",
    "flag_partners",
)
"""Every gate there is; settings name each of them, so that none can be left out by an oversight."""


@dataclass(frozen=True)
class Bar:
    """A limit of one gate: ``value`` at least (``min``) or at most (``max``), compared with ``end`` of the interval.

    unknown: what a value that was not measured means: "fail", or "skip" for not applicable.
    """

    side: Side
    value: float
    end: End = "value"
    unknown: Unknown = "fail"


@dataclass(frozen=True)
class Part:
    """One group behind a measure that compares groups. ``value`` is None where it is too small to be judged.

    low, high: 95 % interval; champion: the same value of the champion; count: customers in the group.
    """

    name: str
    count: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    champion: float | None = None

    def __post_init__(self) -> None:
        _only_numbers(self, "value", "low", "high", "champion")


@dataclass(frozen=True)
class Measure:
    """One measured value of a gate. ``subject`` says of what: a task, a column, a group.

    low, high: 95 % interval where there is one; champion, champion_low, champion_high: the same of the champion;
    count: customers behind it; parts: the groups that it compares. Where ``value`` is None, ``note`` says why.
    """

    gate: str
    subject: str
    value: float | None
    low: float | None = None
    high: float | None = None
    champion: float | None = None
    count: int | None = None
    note: str = ""
    champion_low: float | None = None
    champion_high: float | None = None
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        _only_numbers(self, "value", "low", "high", "champion", "champion_low", "champion_high")


def _only_numbers(measured: Part | Measure, *names: str) -> None:
    """NaN compares as false with every bar and has no JSON, so it is unknown; NumPy's own numbers compare to a bool
    that has none either.
    """
    for name in names:
        number = getattr(measured, name)
        if number is not None:
            object.__setattr__(measured, name, float(number) if math.isfinite(number) else None)


@dataclass(frozen=True)
class Evidence:
    """All that was measured of one bundle. manifest, champion: hex SHA-256 of the two manifests.

    notes: sentences that a reader must know to read the values.
    """

    manifest: str
    champion: str | None
    measures: tuple[Measure, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One gate's answer; ``passed`` is None where it does not apply. ``gate`` is ``gate`` or ``gate/subject``."""

    gate: str
    passed: bool | None
    value: float | None
    bar: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the gates say of exactly one bundle. manifest, report: hex SHA-256 of manifest.json and of the report."""

    passed: bool
    findings: tuple[Finding, ...]
    manifest: str
    report: str

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.passed is False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"findings": [asdict(f) for f in self.findings]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Verdict:
        findings = tuple(Finding(**f) for f in data["findings"])
        return Verdict(data["passed"], findings, data["manifest"], data["report"])


@dataclass(frozen=True)
class Settings:
    """The bars by gate, and how the evidence is computed: bootstrap draws, seed, smallest group that is judged."""

    bars: Mapping[str, Bar]
    draws: int = 500
    seed: int = 0
    smallest_group: int = 50
    groups: tuple[str, ...] = field(default=())

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Settings:
        """Settings from ``{gates: {name: {min|max: x, of: value|low|high, unknown: fail|skip}}, draws: …}``.

        Raises ConfigError for a gate that is unknown, missing, or whose bar is no finite number.
        """
        gates = data.get("gates")
        if not isinstance(gates, Mapping):
            raise ConfigError("promotion.gates", "no gates are named", "Start from promotion=default.")
        if unknown := sorted(set(gates) - set(GATES)):
            raise ConfigError(f"promotion.gates.{unknown[0]}", "no such gate", f"Known: {', '.join(GATES)}.")
        if missing := [g for g in GATES if g not in gates]:
            raise ConfigError(f"promotion.gates.{missing[0]}", "the gate has no bar", "Give every gate one.")
        others = {"draws", "seed", "smallest_group", "groups"}
        if unknown := sorted(set(data) - others - {"gates"}):
            raise ConfigError(f"promotion.{unknown[0]}", "no such setting", "Start from promotion=default.")
        bars = {name: _bar(name, gates[name]) for name in GATES}
        return Settings(
            bars,
            int(data.get("draws", 500)),
            int(data.get("seed", 0)),
            int(data.get("smallest_group", 50)),
            tuple(data.get("groups", ())),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _bar(name: str, raw: Any) -> Bar:
    key = f"promotion.gates.{name}"
    if not isinstance(raw, Mapping) or set(raw) - {"min", "max", "of", "unknown"} or ("min" in raw) == ("max" in raw):
        raise ConfigError(key, "a bar is one of min and max, with of and unknown beside it", "See configs/promotion.")
    side: Side = "min" if "min" in raw else "max"
    value, end, unknown = raw[side], raw.get("of", "value"), raw.get("unknown", "fail")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{key}.{side}", "not a finite number", "Give a number.")
    if end not in ("value", "low", "high") or unknown not in ("fail", "skip"):
        raise ConfigError(key, "of is value, low or high; unknown is fail or skip", "See configs/promotion.")
    return Bar(side, float(value), end, unknown)


def judge(evidence: Evidence, settings: Settings) -> Verdict:
    """The verdict: passed where nothing failed and something was judged at all.

    Raises ValueError for a measure of a gate that does not exist.
    """
    if strange := {m.gate for m in evidence.measures} - set(GATES):
        raise ValueError(f"no such gate: {', '.join(sorted(strange))}")
    findings = tuple(_findings(evidence, settings))
    passed = all(f.passed is not False for f in findings) and any(f.passed for f in findings)
    report = hashlib.sha256(canonical(report_of(evidence, settings, findings))).hexdigest()
    return Verdict(passed, findings, evidence.manifest, report)


def report_of(evidence: Evidence, settings: Settings, findings: tuple[Finding, ...]) -> dict[str, Any]:
    """gate.json: all that the verdict rests on; its canonical bytes are what an approval signs."""
    return {
        "format": FORMAT,
        "evidence": asdict(evidence) | {"measures": [asdict(m) for m in evidence.measures]},
        "settings": settings.to_json(),
        "findings": [asdict(f) for f in findings],
    }


def _findings(evidence: Evidence, settings: Settings) -> Iterator[Finding]:
    for gate in GATES:
        bar = settings.bars[gate]
        measured = [m for m in evidence.measures if m.gate == gate]
        for measure in measured or [Measure(gate, "", None, note="it was not measured")]:
            yield _finding(measure, bar)


def _finding(measure: Measure, bar: Bar) -> Finding:
    name = f"{measure.gate}/{measure.subject}" if measure.subject else measure.gate
    value: float | None = getattr(measure, bar.end)
    if value is None:
        why = measure.note or ("no interval is defined" if measure.value is not None else "it could not be measured")
        return Finding(name, False if bar.unknown == "fail" else None, None, bar.value, f"unknown: {why}")
    passed = value >= bar.value if bar.side == "min" else value <= bar.value
    what = {"value": "", "low": "lower end of the 95 % interval ", "high": "upper end of the 95 % interval "}[bar.end]
    word = "at least" if bar.side == "min" else "at most"
    reason = f"{what}{value:.4g}, {word} {bar.value:g} is asked"
    if measure.count is not None:
        reason += f" ({measure.count} customers)"
    return Finding(name, passed, value, bar.value, f"{reason}; {measure.note}" if measure.note else reason)
