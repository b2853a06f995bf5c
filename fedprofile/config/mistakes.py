"""A user's mistakes in a config, said in the schema's own names: nearest key, expected type, offending file."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from fedprofile.config.schema import Config
from fedprofile.errors import ConfigError

_TYPE_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list[str]: "a list of texts",
    type(None): "null",
}


def schema_keys(cls: type = Config, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of the schema and its type hint."""
    keys: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            keys |= schema_keys(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            keys[prefix + name] = hint
    return keys


KEYS = schema_keys()
GROUPS = (*dict.fromkeys(key.split(".")[0] for key in KEYS if "." in key and not key.startswith("run.")), "experiment")


def values_of(config: Config) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    for key in KEYS:
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        yield key, value


def expected(hint: Any) -> str:
    """A type hint in words."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return " or ".join(_TYPE_WORDS[part] for part in parts)


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value has the type of a schema's hint; an int is a number, a bool is not."""
    if isinstance(hint, types.UnionType):
        return any(conforms(value, part) for part in typing.get_args(hint))
    if hint == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A mend that names the nearest valid name, or all of them where none is near."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Choose from: {', '.join(sorted(names))}."


def unknown_key(key: str) -> ConfigError:
    """The error for a key that is not in the schema: nearest by full key, by a word of it, by its last part."""
    if key.startswith("hydra"):
        return ConfigError(key, "Hydra knows no such key", "See `fedprofile train --cfg hydra`.")
    last = key.rsplit(".", 1)[-1]
    leaves = {full.rsplit(".", 1)[-1]: full for full in reversed(KEYS)}
    near = difflib.get_close_matches(key, KEYS if "." in key else [*KEYS, *GROUPS], n=1, cutoff=0.6)
    near = near or [full for leaf, full in leaves.items() if last in leaf.split("_")]
    near = near or [leaves[match] for match in difflib.get_close_matches(last, leaves, n=1, cutoff=0.5)]
    siblings = [k for k in KEYS if k.startswith(key.split(".", maxsplit=1)[0] + ".")]
    return ConfigError(
        key, "no such key", f"Did you mean {near[0]}?" if near else f"Valid here: {', '.join(siblings or GROUPS)}."
    )


def check_override(override: Override, *, multirun: bool) -> None:
    """Refuse what is misspelt, or a sweep unasked for, before Hydra composes anything.

    Packages, Hydra's own keys and groups that are not ours are left to Hydra; the closed schema catches what is wrong.
    """
    key, known = override.key_or_group, (*KEYS, *GROUPS)
    if not key:
        raise _no_override(override.input_line or "")
    if override.is_sweep_override() and not multirun:
        quoted = f"{key}=\"'...'\""
        raise ConfigError(key, "several values make a sweep", f"Add -m, or quote a text that holds commas: {quoted}.")
    if re.match(r"hydra(\.|/|$)", key) or override.package is not None:
        return
    if override.is_add():
        if key in known:
            raise ConfigError(key, "exists already", f"Drop the +: {key}=VALUE.")
        if "." in key:
            raise unknown_key(key)
        return
    if key not in known:
        raise unknown_key(key)
    if override.is_delete() and key in KEYS:
        raise ConfigError(key, "cannot be deleted", f"It expects {expected(KEYS[key])}.")
    optional = key == "experiment" or override.is_delete() or override.is_sweep_override()
    if key in GROUPS and not (optional or isinstance(override.value(), str | list | dict)):
        raise ConfigError(key, "is a group, and needs the name of an option", f"Example: {key}=NAME.")


def _no_override(text: str) -> ConfigError:
    return ConfigError(text, "this is no override", "Write key=value, for example data=nhanes; quote odd characters.")


def explain(error: Exception) -> ConfigError:
    """Hydra's or OmegaConf's exception as a ConfigError that names key, expected type and file."""
    if isinstance(error, OverrideParseException):
        return _no_override(str(error.override))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = error.options or []
        mend = did_you_mean(option, options) if options else ""
        return ConfigError(group or option, f"no option {option!r}", mend)
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, OmegaConfBaseException):
        chain = chain.__cause__ or chain.__context__
    where = re.match(r"In '([^']+)'", str(error))
    origin = f" (in configs/{where[1]}.yaml)" if where else ""
    if chain is None or not chain.full_key:
        first = str(error).strip().splitlines()[0]
        named = re.match(r"Could not \w+ '([^']+)'", first)
        return ConfigError(named[1] if named else "config", first + origin)
    key, first = str(chain.full_key), str(chain).splitlines()[0]
    if key in KEYS and (got := re.match(r"Value '(.*)' of type", first)):
        return ConfigError(key, f"expects {expected(KEYS[key])}, got {got[1]!r}{origin}")
    if key in KEYS:
        return ConfigError(key, f"{first}{origin}", f"It expects {expected(KEYS[key])}.")
    known = unknown_key(key)
    return ConfigError(key, "no such key" + origin, known.mend)
