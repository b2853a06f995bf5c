"""What types cannot say about a configuration: names, ranges and rules between keys."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from fedprofile.config.mistakes import KEYS, conforms, did_you_mean, expected, values_of
from fedprofile.config.schema import Config
from fedprofile.errors import ConfigError
from fedprofile.mlflow_io.store import check_uri

CHOICES: dict[str, tuple[str, ...]] = {
    "align.mode": ("psi", "union", "plain", "simulated"),
    "learning.name": ("fused_scores",),
    "learning.share": ("all", "role", "none"),
    "learning.trees": ("auto", "always", "never"),
    "secure.kem": ("x25519", "x25519_mlkem768"),
    "secure.profile": ("strict", "resilient", "none"),
    "secure.verify": ("auto", "recompute", "none"),
    "federation.backend": ("inprocess", "ray"),
    "fusion.parts": ("linear", "trees", "network"),
}

# Built-in names, and the entry-point group where others are registered.
REGISTERED: dict[str, tuple[str, tuple[str, ...]]] = {
    "data.source": ("fedprofile.sources", ("folder", "nhanes", "k401")),
    "model.encoder": ("fedprofile.encoders", ("mlp",)),
    "model.head": ("fedprofile.heads", ("continuation_ratio",)),
}

# The one value that is built so far, and why another is refused.
ONLY: dict[str, tuple[str, str]] = {
    "federation.consent": ("simulated", "a ledger belongs to a deployed node's home, which names it itself"),
    "privacy.mechanism": ("none", "differentially private updates are not built yet"),
}

# Intervals in the usual notation; null is always allowed where the type allows it.
RANGES: dict[str, str] = {
    "seed": "[0, 2147483647]",
    "data.members": "[1, 64]",
    "data.fold": "[0, 4]",
    "learning.rounds": "[1, inf)",
    "learning.steps": "[1, inf)",
    "learning.lr": "(0, 1]",
    "learning.weight_decay": "[0, inf)",
    "learning.batch": "[2, inf)",
    "learning.view_dropout": "[0, 1)",
    "model.replicas": "[2, 10]",
    "model.ensemble": "[1, 64]",
    "model.hidden": "[1, 4096]",
    "model.profile": "[1, 4096]",
    "model.dropout": "[0, 1)",
    "align.max_points": "[256, 4294967295]",
    "fusion.min_views": "[1, inf)",
    "fusion.view_dropout": "[0, 1)",
    "secure.min_hidden": "[1, inf)",
    "secure.colluders": "[0, inf)",
    "secure.max_uploads": "[1, inf)",
    "secure.max_uploads_day": "[1, inf)",
    "secure.clip": "(0, inf)",
    "privacy.label_eps": "(0, inf)",
    "privacy.min_release": "[1, inf)",
    "federation.members": "[1, 64]",
    "federation.overlap": "(0, 1]",
    "federation.workers": "[1, 1024]",
    "baselines.bootstrap": "[1, inf)",
}


def validate(config: Config) -> None:
    """Raise ConfigError at the first key whose type, name, range or company is wrong."""
    for key, value in values_of(config):
        if not conforms(value, KEYS[key]):
            raise ConfigError(key, f"expects {expected(KEYS[key])}, got {type(value).__name__}")
        if value is None:
            continue
        if key in RANGES and not _inside(value, RANGES[key]):
            raise ConfigError(key, f"{value} is out of range", f"It must be {_in_words(RANGES[key])}.")
        if key in ONLY and value != ONLY[key][0]:
            raise ConfigError(key, f"{value!r} is refused: {ONLY[key][1]}", f"Leave it at {ONLY[key][0]!r}.")
        _check_name(key, value)
    _check_company(config)


def _check_name(key: str, value: Any) -> None:
    if key in REGISTERED:
        group, built_in = REGISTERED[key]
        names = {*built_in, *(point.name for point in entry_points(group=group))}
    elif key in CHOICES:
        names = set(CHOICES[key])
    else:
        return
    for name in value if isinstance(value, list) else [value]:
        if name not in names:
            raise ConfigError(key, f"no such name {name!r}", did_you_mean(name, names))


def _inside(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    return above and below


def _in_words(interval: str) -> str:
    low, high = interval[1:-1].split(", ")
    words = f"{'more than' if interval[0] == '(' else 'at least'} {low}"
    if high == "inf":
        return words + " and finite"
    return f"{words} and {'less than' if interval[-1] == ')' else 'at most'} {high}"


def _check_company(config: Config) -> None:
    """Rules between keys. Opening one partner's scores takes two explicit choices (fps1, score sums)."""
    if (config.fusion.min_views == 1) != (config.secure.min_hidden == 1):
        lone, other = ("fusion.min_views", "secure.min_hidden")
        if config.secure.min_hidden == 1:
            lone, other = other, lone
        raise ConfigError(
            lone,
            f"1 is allowed only together with {other}=1, since it opens one partner's scores to the label owner",
            f"Set both to 1, which the report will state, or leave {lone} at 2.",
        )
    if config.secure.profile == "resilient" and not config.secure.accept_differencing:
        raise ConfigError(
            "secure.accept_differencing",
            "secure=resilient opens sums over sets that may differ by one node, whose part is then their difference",
            "Add secure.accept_differencing=true, which the report will state, or use secure=strict.",
        )
    if not config.fusion.parts or len(set(config.fusion.parts)) < len(config.fusion.parts):
        raise ConfigError("fusion.parts", "needs at least one part, and each only once", "Example: [linear,trees].")
    if config.data.source == "folder" and config.data.root is None:
        raise ConfigError("data.root", "data=folder needs a folder", "Add data.root=DIR.")
    if config.data.source in ("nhanes", "k401") and config.data.root is not None:
        raise ConfigError("data.root", f"data={config.data.source} reads no folder", "Add data=folder, or drop it.")
    if config.secure.profile == "none" and config.secure.verify == "recompute":
        raise ConfigError(
            "secure.verify",
            "recompute hands every upload to every node, and with secure=none an upload is one node's plain update",
            "Leave secure.verify at auto, or mask with secure=strict.",
        )
    if config.secure.profile == "resilient" and config.secure.verify == "recompute":
        raise ConfigError(
            "secure.verify",
            "recompute adds up a round's uploads, and with secure=resilient they carry self masks as well",
            "Leave secure.verify at auto, which comes to none and the report states it, or use secure=strict.",
        )
    if config.federation.backend == "ray" and config.secure.kem != "x25519":
        raise ConfigError(
            "secure.kem",
            f"{config.secure.kem} draws secrets that no other process can derive again, and on Ray a node moves "
            "between processes",
            "Use federation=inprocess, or secure.kem=x25519.",
        )
    _check_secrets(config.federation.secrets)
    if config.tracking.uri is not None:
        check_uri(config.tracking.uri)


def _check_secrets(secrets: str) -> None:
    if not re.fullmatch(r"simulated(:\d+)?", secrets) and not Path(secrets).is_dir():
        raise ConfigError(
            "federation.secrets",
            f"{secrets!r} is neither 'simulated', 'simulated:N' nor a directory that exists",
            "Leave it at simulated, or name the directory with the nodes' homes.",
        )
