"""federation.yaml, format 1: parsed, every key and name checked, before a table is opened."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from fedprofile.data.reading import nearest
from fedprofile.data.yaml_file import mapping, read_yaml, text
from fedprofile.errors import DataError
from fedprofile.types import TaskKind

FILE = "federation.yaml"
MAX_PARTIES = 10
_REQUIRED = ("name", "id", "label_owner", "labels", "tasks", "parties")
_OPTIONAL = ("format", "time", "weight", "groups", "units")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True)
class PartySpec:
    """Where a party's table is, and which of its columns are categorical."""

    table: str
    categorical: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """What federation.yaml says."""

    name: str
    id_column: str
    label_owner: str
    labels: str
    tasks: Mapping[str, TaskKind]
    parties: Mapping[str, PartySpec]
    groups: tuple[str, ...] = ()
    time: str | None = None
    weight: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns of the label owner that have a use besides being a feature."""
        return tuple(dict.fromkeys((*self.groups, *(c for c in (self.time, self.weight) if c is not None))))


def read_spec(root: Path) -> Spec:
    """The checked federation.yaml of a folder; DataError names the key and the mend."""
    if not root.is_dir():
        raise DataError(str(root), "the folder is missing", "Make one with `fedprofile data init DIR`.")
    if not (root / FILE).exists():
        raise DataError(str(root / FILE), "the file is missing", "Make an example with `fedprofile data init DIR`.")
    return parse_spec(read_yaml(root / FILE, FILE))


def parse_spec(raw: Any) -> Spec:
    """A Spec of the mapping that federation.yaml holds."""
    top = _mapping(raw, "the file", _REQUIRED, _OPTIONAL)
    version = top.get("format", 1)
    if version != 1 or isinstance(version, bool):
        raise DataError(FILE, "`format` is not 1", "Write `format: 1`; this version reads no other.")
    parties = {name: _party(name, value) for name, value in _named(top["parties"], "parties").items()}
    if not 2 <= len(parties) <= MAX_PARTIES:
        raise DataError(FILE, f"{len(parties)} parties", f"A federation has 2 to {MAX_PARTIES} parties.")
    owner = _text(top["label_owner"], "label_owner")
    if owner not in parties:
        mend = nearest(owner, list(parties)) or f"Name one of {', '.join(parties)}."
        raise DataError(FILE, f"`label_owner` {owner!r} is no party", mend)
    return Spec(
        name=_text(top["name"], "name"),
        id_column=_text(top["id"], "id"),
        label_owner=owner,
        labels=_path(top["labels"], "labels"),
        tasks={name: _task(name, value) for name, value in _named(top["tasks"], "tasks").items()},
        parties=parties,
        groups=_texts(top.get("groups"), "groups"),
        time=None if top.get("time") is None else _text(top["time"], "time"),
        weight=None if top.get("weight") is None else _text(top["weight"], "weight"),
        units=_units(top.get("units"), parties),
    )


def _mapping(value: Any, where: str, required: Collection[str], optional: Collection[str]) -> dict[str, Any]:
    return mapping(value, FILE, where, required, optional)


def _named(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise DataError(FILE, f"`{where}` is not a mapping of names", f"Write `{where}:` and a name a line below it.")
    for name in value:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            mend = "Use a letter, then up to 31 letters, digits, - and _ (ASCII); quote words such as yes and no."
            raise DataError(FILE, f"{name!r} is no valid name in `{where}`", mend)
    return value


def _party(name: str, value: Any) -> PartySpec:
    entry = _mapping(value, f"party {name!r}", ("table",), ("categorical",))
    return PartySpec(_path(entry["table"], f"{name}.table"), _texts(entry.get("categorical"), f"{name}.categorical"))


def _task(name: str, value: Any) -> TaskKind:
    kind = _mapping(value, f"task {name!r}", ("kind",), ())["kind"]
    if kind not in ("ordinal", "binary"):
        raise DataError(FILE, f"task {name!r} has an unknown kind", "Use `kind: ordinal` or `kind: binary`.")
    return cast(TaskKind, kind)


def _units(value: Any, parties: Collection[str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(FILE, "`units` is not a mapping", "Write `units: {column: unit}` or `{party.column: unit}`.")
    return {_text(k, "units"): _text(v, "units") for k, v in value.items()}


def _path(value: Any, where: str) -> str:
    path = _text(value, where)
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        mend = "Put the table into the folder, or link it there, and write its name with forward slashes."
        raise DataError(FILE, f"`{where}` leads out of the folder", mend)
    return path


def _text(value: Any, where: str) -> str:
    return text(value, FILE, where)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(FILE, f"`{where}` is not a list", "Write [a, b], or one `- name` a line.")
    return tuple(dict.fromkeys(_text(v, where) for v in value))
