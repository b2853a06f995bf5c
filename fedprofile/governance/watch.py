"""Whether a champion's customers have changed: measured shifts against bars that were agreed, as a pure function.

Small samples move by chance. PSI of two samples of sizes n and m of one population is about χ² with (cells − 1) degrees
of freedom, times 1/n + 1/m (Yurdakul and Naranjo 2020); a difference of two shares is normal with the pooled variance
(Pearson's two-proportion test). A shift counts where it is over its bar and over the value that chance exceeds once
in a thousand times, its ``noise``; below ``min_rows`` live customers nothing is judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedprofile.errors import ConfigError, DataError
from fedprofile.types import canonical, digest

FORMAT = 1
KINDS = ("score_psi", "input_psi", "missing", "unseen")
"""Every kind of shift; settings name a bar for each."""


@dataclass(frozen=True)
class Shift:
    """How far one thing has moved. subject: a task or column; before, now: customers behind the two distributions.

    value: a PSI, or a difference of shares (0 to 1); noise: what chance alone exceeds once in a thousand times.
    """

    kind: str
    subject: str
    value: float
    noise: float
    before: int
    now: int


@dataclass(frozen=True)
class Finding:
    """One shift's answer."""

    shift: Shift
    bar: float
    moved: bool
    reason: str


@dataclass(frozen=True)
class WatchSettings:
    """A bar for each of KINDS, and the fewest live customers that are judged."""

    bars: Mapping[str, float]
    min_rows: int

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> WatchSettings:
        """Raises ConfigError for a kind without a bar, an unknown one, or a value that is no positive number."""
        if unknown := sorted(set(data) - {"bars", "min_rows"}):
            raise ConfigError(f"watch.{unknown[0]}", "no such setting", "Start from configs/watch/default.yaml.")
        bars, rows = data.get("bars"), data.get("min_rows")
        if not isinstance(bars, Mapping) or set(bars) != set(KINDS):
            raise ConfigError("watch.bars", "not one bar for each kind", f"Name exactly {', '.join(KINDS)}.")
        for kind, value in bars.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (0 < value < math.inf):
                raise ConfigError(f"watch.bars.{kind}", "not a number above 0", "Give one.")
        if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
            raise ConfigError("watch.min_rows", "not an integer above 0", "Give one.")
        return WatchSettings({kind: float(bars[kind]) for kind in KINDS}, rows)


@dataclass(frozen=True)
class Watched:
    """What was compared: the champion's manifest (hex), the live table's rows, whose scores, and where the
    training distributions came from; ``notes`` are sentences that a reader must know.
    """

    manifest: str
    rows: int
    scores: str
    reference: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outlook:
    """The verdict: retrain where anything moved. Findings in the order of KINDS, the largest shift first."""

    watched: Watched
    settings: WatchSettings
    findings: tuple[Finding, ...]

    @property
    def moved(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.moved)

    @property
    def retrain(self) -> bool:
        return bool(self.moved)

    def to_json(self) -> dict[str, Any]:
        """watch.json: figures and counts only; no value of a row, no edge and no level."""
        return {
            "format": FORMAT,
            "watched": asdict(self.watched) | {"notes": list(self.watched.notes)},
            "settings": asdict(self.settings),
            "findings": [asdict(f) for f in self.findings],
            "retrain": self.retrain,
        }

    @property
    def evidence(self) -> str:
        """Hex name of exactly this evidence."""
        return digest("watch/1", canonical(self.to_json())).hex()


def judge(watched: Watched, shifts: Iterable[Shift], settings: WatchSettings) -> Outlook:
    """Raises DataError for fewer live customers than ``min_rows``, ValueError for a kind that does not exist."""
    if watched.rows < settings.min_rows:
        what = f"too few customers: {watched.rows}, of which {settings.min_rows} are needed"
        raise DataError("the live table", what, "PSI of a small sample is large by chance: bring a longer period.")
    ordered = sorted(shifts, key=lambda s: (KINDS.index(s.kind), -s.value, s.subject))
    return Outlook(watched, settings, tuple(_finding(s, settings.bars[s.kind]) for s in ordered))


def _finding(shift: Shift, bar: float) -> Finding:
    over = shift.value > bar
    moved = over and shift.value > shift.noise
    reason = f"{shift.value:.3g}, at most {bar:g} is asked ({shift.now} live customers against {shift.before})"
    if over and not moved:
        reason += f"; chance alone exceeds {shift.noise:.3g} once in a thousand times, so this says nothing"
    return Finding(shift, bar, moved, reason)
