"""Which later plans an approval by hand may stand for: those that ask for no more, field by field. Pure.

A field that has no rule here is covered by nothing, so whoever adds one to a plan has to decide. Fewer steps in a round
are no less: an update of one step is a gradient, which says more of single rows than one of many steps (Zhu et al.
2019). So of the arithmetic only the number of rounds may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import eq
from typing import Any

from fedprofile.types import RunPlan, Task

Rule = Callable[[Any, Any], bool]
"""Whether what was approved covers what is asked."""


@dataclass(frozen=True)
class Terms:
    """What a yes is about: the plan, and what this node brings to it, its profile and its columns by name."""

    plan: RunPlan
    profile: str
    columns: tuple[str, ...]


def covers(approved: Terms, asked: Terms) -> list[str]:
    """Why a standing approval of ``approved`` does not cover ``asked``, field by field; empty where it does."""
    return list(_reasons(RULES, approved, asked))


def _reasons(rules: Rules, approved: Any, asked: Any) -> list[str]:
    found = []
    for name in (f.name for f in fields(asked)):
        before, now, rule = getattr(approved, name, None), getattr(asked, name), rules.get(name)
        if isinstance(rule, Mapping):
            found += _reasons(rule, before, now)
        elif rule is None or not rule(before, now):
            found.append(f"{name}{_said(before, now)}")
    return found


def _said(before: object, now: object) -> str:
    """Numbers are named; texts, written by others, are not."""
    plain = all(value is None or isinstance(value, (bool, int, float)) for value in (before, now))
    return f": {now} asked, {before} approved" if plain else " differs"


def _free(_approved: object, _asked: object) -> bool:
    return True


def _at_most(approved: Any, asked: Any) -> bool:
    return type(asked) is type(approved) and bool(asked <= approved)


def _at_least(approved: Any, asked: Any) -> bool:
    return type(asked) is type(approved) and bool(asked >= approved)


def _epsilon(approved: float | None, asked: float | None) -> bool:
    """None is true labels, which only None covers; per task, so that the total is not more either."""
    return approved is None or _at_most(approved, asked)


def _among(approved: tuple[Task, ...], asked: tuple[Task, ...]) -> bool:
    """Some of the tasks, each as it was and each once."""
    return bool(asked) and all(task in approved and asked.count(task) == 1 for task in asked)


def _no_others(approved: tuple[str, ...], asked: tuple[str, ...]) -> bool:
    return set(asked) <= set(approved)


Rules = Mapping[str, "Rule | Rules"]

RULES: Rules = {
    "profile": eq,
    "columns": _no_others,
    "plan": {
        "run_id": _free,
        "purpose": eq,
        "tasks": _among,
        "roster_hash": eq,
        "policy_hash": eq,
        "seed": eq,
        "label_eps": _epsilon,
        "min_views": _at_least,
        "schemas": eq,
        "align": eq,
        "min_release": _at_least,
        "recompute": _at_least,
        "start": eq,
        "learning": {
            "replicas": eq,
            "hidden": eq,
            "profile": eq,
            "ensemble": eq,
            "dropout": eq,
            "lr": eq,
            "weight_decay": eq,
            "batch": eq,
            "rounds": _at_most,
            "steps": eq,
            "share": eq,
            "trees": eq,
            "encoder": eq,
            "head": eq,
            "view_dropout": eq,
        },
    },
}
