"""The table at the end of a run, as text for a terminal or a log."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fedprofile.report import words


def render(report: Mapping[str, Any], width: int | None = None) -> str:
    """A valid report (``schema.validate``) as text of ``width`` columns, the terminal's own where None.

    Colour only where stdout is a terminal; control characters in any name are replaced.
    """
    from rich.console import Console

    out = io.StringIO()
    columns = width or max(80, min(110, shutil.get_terminal_size().columns))
    console = Console(file=out, width=columns, force_terminal=sys.stdout.isatty(), highlight=False)
    for name, task in report["tasks"].items():
        _task(console, name, task)
    _facts(console, _run_facts(report))
    _notes(console, "", report["statements"])
    _notes(console, "Warning: ", report["warnings"])
    if "dir" in report["run"]:
        console.print()
        _facts(console, [("report", f"{words.clean(report['run']['dir'])}/report.html")])
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _task(console: Any, name: str, task: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble((words.clean(name), "bold"), f" · {words.subject(task)}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True, show_edge=False)
    table.add_column("")
    for title in ("ROC-AUC [95 %]", "accuracy", "kappa", "log-loss", "ECE"):
        table.add_column(title, justify="right", no_wrap=True)
    for key in words.MODEL_NAMES:
        model = task["models"][key]
        cells = ["–"] * 5 if model is None else [words.with_interval(model, "auc"), *_rest(model)]
        style = "bold" if key == "federated" else "dim" if model is None else ""
        table.add_row(*map(Text, [words.model_name(key, model), *cells]), style=style)
    console.print(head)
    console.print(table)
    console.print()
    _facts(console, _task_facts(task))
    console.print()


def _rest(model: Mapping[str, Any]) -> list[str]:
    return [words.number(model[m]) for m in ("accuracy", "qwk", "log_loss", "ece")]


def _task_facts(task: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "gap closed", words.gap(task)
    for label, key in (("bank alone", "federated_minus_bank"), ("not federated", "federated_minus_members")):
        for metric in ("auc", "log_loss"):
            if task[key] and metric in task[key]:
                d = task[key][metric]
                told = f"{words.METRIC_NAMES[metric]} {words.difference(d)}, {words.judgement(metric, d)}"
                yield f"federated − {label}", told
    if task["gain_by_partner"]:
        gains = sorted(task["gain_by_partner"].items(), key=lambda item: -item[1]["auc_drop"])
        told = ", ".join(f"{words.clean(role)} {words.signed(g['auc_drop'])}" for role, g in gains)
        yield "gain by partner", f"AUC {told}"
    for reason, names in words.missing(task).items():
        yield "not computed", f"{', '.join(names)}: {reason}"


def _run_facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    privacy = report["privacy"]
    eps = ", ".join(f"{words.clean(t)} {words.epsilon(e)}" for t, e in privacy["label_eps"].items())
    total = "" if privacy["label_eps_total"] is None else f"; {privacy['label_eps_total']:g} in total"
    yield "label ε", f"{eps}{total}, for {words.count(privacy['customers_released'])} training customers"
    tolerated = [f"{words.opening_name(o)} {o['hidden']}" for o in privacy["openings"]]
    yield "hidden in a sum", ", ".join(dict.fromkeys(tolerated)) or "nothing was opened"
    figures = {p["id"]: p["quality"] for p in report["data"]["parties"]}
    measured = [f"{words.clean(party)} {words.quality(q)}" for party, q in figures.items() if q is not None]
    yield "data quality", ", ".join(measured) or words.quality(None)
    sent = {way: words.traffic(report["wire"], way) for way in ("up", "down")}
    yield (
        "wire",
        ", ".join(f"{words.size(b)} {way} in {words.count(n)} messages" for way, (n, b) in sent.items()),
    )
    stages = sorted(report["seconds"].items(), key=lambda item: -item[1])[:4]
    longest = ", ".join(f"{words.clean(stage)} {words.duration(s)}" for stage, s in stages)
    yield "time", f"{words.duration(sum(report['seconds'].values()))}" + (f": {longest}" if longest else "")


def _facts(console: Any, rows: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=24, style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    last = ""
    for label, value in rows:
        grid.add_row(Text("" if label == last else label), Text(value))
        last = label
    console.print(grid)


def _notes(console: Any, prefix: str, sentences: list[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    if sentences:
        console.print()
    for sentence in sentences:
        grid.add_row("•", Text(f"{prefix}{words.clean(sentence)}"))
    console.print(grid)
