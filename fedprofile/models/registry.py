"""Encoders and heads by name: built-in ones, and those that installed packages declare as entry points.

A plugin declares ``[options.entry_points] fedprofile.encoders = mine = package.module:SPEC``; a name never
becomes an import path.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from fedprofile.errors import ConfigError

PluginKind = Literal["encoders", "heads"]
_BUILT_IN: dict[str, dict[str, str]] = {
    "encoders": {"mlp": "fedprofile.models.layout:MLP"},
    "heads": {"continuation_ratio": "fedprofile.models.heads:log_probabilities"},
}


@cache
def _choices(kind: PluginKind) -> dict[str, EntryPoint]:
    group = f"fedprofile.{kind}"
    found = {point.name: point for point in entry_points(group=group)}
    # Built-in names win: an installed package must not be able to change what a plan's name means.
    return found | {name: EntryPoint(name, value, group) for name, value in _BUILT_IN[kind].items()}


def resolve(kind: PluginKind, name: str) -> Any:
    """The encoder (an ``EncoderSpec``) or head (a ``heads.Head``) registered under ``name``.

    Raises ConfigError, naming the nearest known names, if there is none.
    """
    choices = _choices(kind)
    if name not in choices:
        near = get_close_matches(name, choices, n=3, cutoff=0.0)
        raise ConfigError(
            f"model.{kind[:-1]}", f"no {kind[:-1]} is registered as {name!r}", f"Use one of: {', '.join(near)}."
        )
    return choices[name].load()


def load_object(reference: str) -> Any:
    """The object that code (never a config) names as ``package.module:attribute``; imports it now."""
    return EntryPoint("", reference, "").load()
