"""As much of Prometheus' text format 0.0.4 as a node needs: prometheus.io/docs/instrumenting/exposition_formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """One metric. ``samples``: labels and a value each; none where there is nothing to say."""

    name: str
    type: Literal["gauge", "counter"]
    help: str
    samples: tuple[tuple[Labels, float], ...]


def gauge(name: str, help: str, value: float | None) -> Family:
    """A metric without labels; None leaves it out."""
    return Family(name, "gauge", help, () if value is None else (({}, value),))


def labelled(name: str, type: Literal["gauge", "counter"], help: str, label: str, by: Mapping[str, float]) -> Family:
    """One sample for each value of one label, in their order."""
    return Family(name, type, help, tuple(({label: key}, by[key]) for key in sorted(by)))


def render(families: Iterable[Family]) -> str:
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines += [f"# HELP {family.name} {_escape(family.help)}", f"# TYPE {family.name} {family.type}"]
        lines += [f"{family.name}{_labels(labels)} {float(value)!r}" for labels, value in family.samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    quoted = {name: _escape(value).replace('"', '\\"') for name, value in labels.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in quoted.items()) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
