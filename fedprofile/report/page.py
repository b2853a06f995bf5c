"""report.html: the whole report on one page that loads nothing, runs no script and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedprofile.report import words
from fedprofile.report.markup import Safe, escape, facts, join, listing, picture, table, tag
from fedprofile.report.page_privacy import privacy_section
from fedprofile.report.page_run import learning_section, reproduce_section, setting_section
from fedprofile.report.plots import slugs
from fedprofile.report.schema import METRICS
from fedprofile.report.style import CSS

# A second lock beside escaping: a browser that is told this loads nothing and runs nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_page(report: Mapping[str, Any], dir: Path, plots: Sequence[Path]) -> Path:
    """Write ``dir``/report.html from a valid report (``schema.validate``) and the PNGs of ``plots.write_plots``.

    The images are embedded; every text of the report is escaped.
    """
    by_stem = {path.stem: path for path in plots}
    tasks = list(zip(slugs(report["tasks"]), report["tasks"].items(), strict=True))
    body = join(
        [
            _head(report, [(slug, name) for slug, (name, _) in tasks]),
            _glance(report),
            _notes(report),
            *(_task(slug, name, task, by_stem) for slug, (name, task) in tasks),
            learning_section(report, by_stem.get("learning_curve")),
            privacy_section(report),
            setting_section(report),
            reproduce_section(report),
        ]
    )
    page = document(f"{report['run']['name']} · fedprofile report", body)
    path = dir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def document(title: str, body: Safe) -> str:
    """A whole page around ``body`` that loads nothing and runs no script."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>{body}</main></body></html>\n"
    )


def _head(report: Mapping[str, Any], tasks: list[tuple[str, str]]) -> Safe:
    run = report["run"]
    links = [(f"#task-{slug}", name) for slug, name in tasks]
    links += [("#learning", "Learning"), ("#privacy", "Privacy"), ("#setting", "Setting"), ("#reproduce", "Reproduce")]
    return tag(
        "header",
        tag("p", "fedprofile · report of one training", class_="eyebrow"),
        tag("h1", run["name"]),
        tag("p", words.headline(report), class_="lead"),
        tag(
            "p", f"{run['created']} · version {run['version']} · seed {run['seed']}, fold {run['fold']}", class_="quiet"
        ),
        tag("nav", *(tag("a", text, href=to) for to, text in links)),
    )


def _card(name: str, value: str, *lines: str) -> Safe:
    return tag(
        "div", tag("span", name, class_="name"), tag("b", value), *(tag("span", line) for line in lines), class_="card"
    )


def _glance(report: Mapping[str, Any]) -> Safe:
    cards = []
    for name, task in report["tasks"].items():
        lines = ["ROC-AUC, federated"]
        if task["federated_minus_bank"] and "auc" in task["federated_minus_bank"]:
            d = task["federated_minus_bank"]["auc"]
            lines.append(f"{words.signed(d['difference'])} to bank alone: {words.judgement('auc', d)}")
        if task["gap_closed"] is not None:
            lines.append(f"gap to pooled data closed: {words.percent(task['gap_closed'])}")
        cards.append(_card(name, words.number(task["models"]["federated"]["auc"]), *lines))
    total = report["privacy"]["label_eps_total"]
    cards.append(_card("Label ε", "none" if total is None else f"{total:g}", "per customer, over all tasks"))
    messages, sent = words.traffic(report["wire"], "up")
    cards.append(_card("Left the nodes", words.size(sent), f"in {words.count(messages)} messages over the run"))
    return tag("div", *cards, class_="cards")


def _notes(report: Mapping[str, Any]) -> Safe:
    notes = []
    for title, kind, sentences in (
        ("What must be said about this run", "note", report["statements"]),
        ("Warnings", "note warn", report["warnings"]),
    ):
        if sentences:
            notes.append(tag("div", tag("h3", title), listing(sentences), class_=kind))
    return join(notes)


def _task(slug: str, name: str, task: Mapping[str, Any], plots: Mapping[str, Path]) -> Safe:
    told = facts([("gap closed", words.gap(task)), *_absent(task)])
    pictures = [
        picture(plots[f"{kind}_{slug}"], f"{what} for {name}. {words.finding(name, task)}.")
        for kind, what in (
            ("models", "Comparison of models"),
            ("gain", "Gain by partner"),
            ("confusion", "Confusion matrix"),
            ("reliability", "Reliability diagram"),
        )
        if f"{kind}_{slug}" in plots
    ]
    return join(
        [
            tag("h2", f"Task: {name}", id=f"task-{slug}", class_="page"),
            tag("p", words.subject(task), class_="quiet"),
            _models(task),
            told,
            _differences(task),
            tag("div", *pictures, class_="figures") if pictures else "",
        ]
    )


def _absent(task: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("not computed", f"{', '.join(names)}: {reason}") for reason, names in words.missing(task).items()]


def _models(task: Mapping[str, Any]) -> Safe:
    rows = []
    for key in words.MODEL_NAMES:
        model = task["models"][key]
        rows.append([words.model_name(key, model), *(_measured(model, metric) for metric in METRICS)])
    head = ["", *(words.METRIC_NAMES[m] for m in METRICS)]
    return table(head, rows, "Test customers, with 95 % bootstrap intervals", words.MODEL_NAMES["federated"])


def _measured(model: Mapping[str, Any] | None, metric: str) -> str:
    if model is None:
        return "–"
    pair = model["intervals"].get(metric)
    interval = tag("small", words.bracket(*pair)) if pair and model[metric] is not None else ""
    return join([words.number(model[metric]), interval])


def _differences(task: Mapping[str, Any]) -> Safe:
    against = {"bank alone": task["federated_minus_bank"], "partners, not federated": task["federated_minus_members"]}
    known = {name: d for name, d in against.items() if d}
    metrics = [m for m in METRICS if any(m in d for d in known.values())]
    rows = [[words.METRIC_NAMES[m], *(_difference(m, d) for d in known.values())] for m in metrics]
    return table(["", *known], rows, "Federated minus") if rows else Safe("")


def _difference(metric: str, by_metric: Mapping[str, Any]) -> str:
    if metric not in by_metric:
        return "–"
    d = by_metric[metric]
    return join([words.difference(d), tag("small", words.judgement(metric, d))])
