"""The plots of a run as PNGs: ``learning_curve.png`` and, per task, ``models_``, ``reliability_``, ``confusion_``
and ``gain_<task>.png``; and the charts of a gate report. A plot without data is not written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedprofile.report import charts, gate_charts
from fedprofile.report.canvas import save, style

_TASK_PLOTS: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
    "models": charts.models,
    "gain": charts.gain,
    "confusion": charts.confusion,
    "reliability": charts.reliability,
}
_GATE_PLOTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "auc": gate_charts.discrimination,
    "calibration": gate_charts.calibration,
    "against_champion": gate_charts.against_champion,
    "views": gate_charts.views,
    "fairness": gate_charts.fairness,
}


def write_plots(report: Mapping[str, Any], dir: Path) -> list[Path]:
    """Draw every plot of a valid report (``schema.validate``) into ``dir``, at 200 dots an inch.

    Returns:
        The paths written: the learning curve, then by task. The caller's matplotlib settings are left as they were.
    """
    import matplotlib

    dir.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(style()):
        if report["learning_curve"]["rounds"] and report["learning_curve"]["loss"]:
            written.append(save(charts.learning_curve(report["learning_curve"]), dir / "learning_curve.png"))
        for slug, (name, task) in zip(slugs(report["tasks"]), report["tasks"].items(), strict=True):
            for kind, draw in _TASK_PLOTS.items():
                figure = draw(name, task)
                if figure is not None:
                    written.append(save(figure, dir / f"{kind}_{slug}.png"))
    return written


def write_gate_plots(report: Mapping[str, Any], dir: Path) -> dict[Path, str]:
    """Draw gate.json (``governance.gates.report_of``) into ``dir``; what was written, and what each picture says."""
    import matplotlib

    written = {}
    with matplotlib.rc_context(style()):
        for kind, draw in _GATE_PLOTS.items():
            figure = draw(report)
            if figure is not None:
                written[save(figure, dir / f"{kind}.png")] = figure.get_suptitle().replace("\n", " ")
    return written


def slugs(tasks: Mapping[str, Any]) -> list[str]:
    """One file-name part a task, in order: its letters and digits, numbered where two would be the same."""
    found: list[str] = []
    for name in tasks:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "task"
        number = 2
        unique = slug
        while unique in found:
            unique, number = f"{slug}-{number}", number + 1
        found.append(unique)
    return found
