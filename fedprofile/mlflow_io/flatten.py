"""From nested documents to the flat names that MLflow keeps: parameters of a config, metrics of a report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_KEY = 250
MAX_VALUE = 500
MAX_PARAMS = 500


def name(text: str) -> str:
    """``text`` within what MLflow allows in a name: word characters, ``/ . - :``, blanks; at most 250 long."""
    return re.sub(r"[^/\w.\- :]", "_", text)[:MAX_KEY]


def params(resolved: Mapping[str, Any]) -> dict[str, str]:
    """Dotted keys to short text; lists as JSON, at most 500 keys of 500 characters: the whole is an artefact."""
    flat = {}
    for path, value in _leaves(resolved, ()):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        flat[name(".".join(path))] = text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
        if len(flat) == MAX_PARAMS:
            break
    return flat


def report_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of report.json that are worth comparing between runs; its nulls are left out.

    ``<task>.<model>.<metric>``, ``<task>.gap_closed``, ``<task>.gain_by_partner.<role>`` (drop in AUC), and
    ``privacy.…``, ``wire.…``, ``seconds.…`` as they are nested there. Intervals and curves stay in the file.
    """
    flat = task_metrics(report["tasks"])
    flat.update(_numbers({part: report[part] for part in ("privacy", "wire", "seconds")}, ()))
    return flat


def task_metrics(tasks: Mapping[str, Any]) -> dict[str, float]:
    """Those of section ``tasks`` alone."""
    flat: dict[str, float] = {}
    for task, body in tasks.items():
        gains = {role: gain["auc_drop"] for role, gain in (body["gain_by_partner"] or {}).items()}
        chosen = {**body["models"], "gap_closed": body["gap_closed"], "gain_by_partner": gains}
        flat.update(_numbers(chosen, (task,)))
    return flat


def _numbers(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for where, leaf in _leaves(value, path):
        if isinstance(leaf, int | float) and not isinstance(leaf, bool) and math.isfinite(leaf):
            yield name(".".join(where)), float(leaf)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    else:
        yield path, value
