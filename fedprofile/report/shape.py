"""A table of *path, type, meaning* as a tree of expectations, and the walk that compares a JSON value with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn


@dataclass
class Node:
    """What is expected at one place: its type, its named children, the shape of any other child."""

    type: str = "object"
    optional: bool = False
    named: dict[str, Node] = field(default_factory=dict)
    each: Node | None = None


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "map": lambda v: isinstance(v, dict),
    "list": lambda v: isinstance(v, list),
    "text": lambda v: isinstance(v, str),
    "hex": lambda v: isinstance(v, str) and v != "" and set(v) <= set("0123456789abcdef"),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "count": lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v),
    "share": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1,
}


def walk(value: Any, node: Node, at: str = "") -> None:
    kind, _, null = node.type.partition("|")
    if value is None and null:
        return
    if not _TYPES[kind](value):
        fail(at or "report", f"is not {kind}{' or null' if null else ''}")
    items = enumerate(value) if kind == "list" else value.items() if kind in ("object", "map") else ()
    for key, child in items:
        path = f"{at}[{key}]" if kind == "list" else f"{at}.{key}".lstrip(".")
        expected = node.named.get(str(key), node.each)
        if expected is None:
            fail(path, "is not a key of the schema")
        else:
            walk(child, expected, path)
    for name, child in node.named.items():
        if name not in value and not child.optional:
            fail(f"{at}.{name}".lstrip("."), "is missing")


def fail(path: str, what: str) -> NoReturn:
    raise ValueError(f"report.json: {path} {what}")


def _expand(path: str, stars: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    names = next((names for where, names in stars.items() if where in path), ("*",))
    yield from (path.replace("*", name) for name in names)


def tree(keys: str, stars: Mapping[str, tuple[str, ...]]) -> Node:
    """``keys`` as a tree; a path that holds one of ``stars`` stands for one path a name in place of its ``*``."""
    root = Node()
    for line in keys.strip().splitlines():
        pattern, kind, _ = line.split(maxsplit=2)
        for path in _expand(pattern, stars):
            node = root
            for part in path.replace("[]", ".[]").split("."):
                if part.startswith(("<", "[")):
                    node.each = node.each or Node()
                    node = node.each
                else:
                    node = node.named.setdefault(part.rstrip("?"), Node(optional=part.endswith("?")))
            node.type = kind
    return root
