"""One function a chart of gate.html: from gate.json to a matplotlib figure whose title says the finding, or None."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedprofile.report import words
from fedprofile.report.canvas import COLOURS, INK, MARKERS, MUTED, canvas, named_rows, plain, titled, whisker

Report = Mapping[str, Any]
_NEW, _OLD = (COLOURS["federated"], MARKERS["federated"]), (COLOURS["bank_alone"], MARKERS["bank_alone"])
_ENDS = {"value": "", "low": " (lower end)", "high": " (upper end)"}
_CUSTOMERS = "Behind a name: its customers."


@dataclass(frozen=True)
class _Row:
    """One line of a chart. Without ``value`` its name says why there is none; ``bar`` is where that is judged."""

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    look: tuple[str, str] = _NEW
    signed: bool = False


def discrimination(report: Report) -> Any:
    """AUC of challenger and champion."""
    return _side_by_side(report, "auc", "ROC-AUC")


def calibration(report: Report) -> Any:
    """Expected calibration error of challenger and champion."""
    return _side_by_side(report, "calibration", "Calibration error (ECE)")


def _side_by_side(report: Report, gate: str, what: str) -> Any:
    rows = []
    for m in _measured(report, gate):
        task = plain(m["subject"], "a task")
        rows.append(_Row(f"{task}, challenger", m["value"], m["low"], m["high"], _bar(report, gate)))
        if m["champion"] is not None:
            rows.append(
                _Row(
                    f"{task}, champion", m["champion"], m["champion_low"], m["champion_high"], _bar(report, gate), _OLD
                )
            )
    return _drawn(rows, f"{what} [95 % bootstrap]. Bar: {_asked(report, gate)}.", f"{what}: {_said(report, gate)}")


def against_champion(report: Report) -> Any:
    """Challenger minus champion on the same customers."""
    names = {"auc_against_champion": "ROC-AUC", "log_loss_against_champion": "log-loss"}
    rows = [
        _Row(
            f"{name}, {plain(m['subject'], 'a task')}", m["value"], m["low"], m["high"], _bar(report, gate), signed=True
        )
        for gate, name in names.items()
        for m in _measured(report, gate)
    ]
    asked = "; ".join(f"{name} {_asked(report, gate)}" for gate, name in names.items())
    below = f"Difference on the same customers [95 % bootstrap]. Bars: {asked}."
    return _drawn(rows, below, f"Challenger minus champion: {_said(report, *names)}")


def views(report: Report) -> Any:
    """AUC of challenger and champion by how many roles know a customer, and of all should the partners fall silent."""
    bar = _bar(report, "views")
    rows = []
    for m in _measured(report, "views", unknown=True):
        task, _, who = m["subject"].rpartition(", ")
        few = "" if m["value"] is not None else ", not judged"
        name = f"{plain(task, 'a task')}, {who} ({words.count(m['count'])}{few})"
        rows.append(_Row(name, m["value"], m["low"], m["high"], bar))
        if m["champion"] is not None:
            rows.append(_Row("champion", m["champion"], m["champion_low"], m["champion_high"], bar, _OLD))
    below = f"ROC-AUC [95 % bootstrap]. Bar: {_asked(report, 'views')}. {_CUSTOMERS}"
    return _drawn(rows, below, f"By how many partners know the customer: {_said(report, 'views')}")


def fairness(report: Report) -> Any:
    """Share of customers with the need whom the model finds, by group."""
    rows = []
    for m in _measured(report, "fairness"):
        task, _, column = m["subject"].partition(" by ")
        name = f"{plain(task, 'a task')} by {plain(column, 'a column')}"
        rows.append(_Row(f"{name}: gap {words.number(m['value'])}"))
        for i, part in enumerate(m["parts"]):
            few = "" if part["value"] is not None else ", not judged"
            who = f"{plain(part['name'], f'group {i + 1}')} ({words.count(part['count'])}{few})"
            rows.append(_Row(who, part["value"], part["low"], part["high"]))
            if part["champion"] is not None:
                rows.append(_Row("champion", part["champion"], look=_OLD))
    below = "Share found of customers with the need or of the top level [95 % bootstrap]. "
    below += f"Gap, largest minus smallest share: {_asked(report, 'fairness')}. {_CUSTOMERS}"
    return _drawn(rows, below, f"Gaps between groups: {_said(report, 'fairness')}")


def _drawn(rows: Sequence[_Row], below: str, title: str) -> Any:
    if all(row.value is None for row in rows):
        return None
    fig, ax = canvas(5.4, 1.6 + 0.3 * len(rows))
    for y, row in enumerate(rows):
        if row.value is not None:
            ends = (row.value, row.value) if row.low is None or row.high is None else (row.low, row.high)
            told = words.signed(row.value) if row.signed else words.number(row.value)
            whisker(ax, y, row.value, ends, *row.look, told)
        # A bar beyond these asks for nothing that a share or a difference could miss, and would hide what is measured.
        if row.bar is not None and abs(row.bar) <= 1:
            ax.vlines(row.bar, y - 0.5, y + 0.5, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=0)
    if any(row.signed for row in rows):
        ax.axvline(0, color=MUTED, lw=0.8, zorder=0)
    named_rows(ax, [row.name for row in rows])
    fig.supxlabel("\n".join(textwrap.wrap(below, 84)), x=0.01, ha="left", size=8, color=MUTED)
    return titled(fig, title)


def _measured(report: Report, gate: str, unknown: bool = False) -> Iterator[Mapping[str, Any]]:
    """The gate's measures that have a value, or with ``unknown`` at least customers."""
    for m in report["evidence"]["measures"]:
        if m["gate"] == gate and (m["value"] is not None or (unknown and m["count"])):
            yield m


def _bar(report: Report, gate: str) -> float:
    value: float = report["settings"]["bars"][gate]["value"]
    return value


def _asked(report: Report, gate: str) -> str:
    bar = report["settings"]["bars"][gate]
    value = f"{bar['value']:g}".replace("-", "−")
    return f"{'at least' if bar['side'] == 'min' else 'at most'} {value}{_ENDS[bar['end']]}"


def _said(report: Report, *gates: str) -> str:
    """What the findings say of these gates, in a few words."""
    found = [f for f in report["findings"] if f["gate"].split("/")[0] in gates]
    failed = [plain(f["gate"].partition("/")[2], "all") for f in found if f["passed"] is False]
    judged = sum(f["passed"] is not None for f in found)
    if not failed:
        return f"{judged} of {judged} clear the bar" if judged else "not judged"
    return f"{len(failed)} of {judged} fail: {'; '.join(failed)}"
