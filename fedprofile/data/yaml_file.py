"""YAML files that people write: parsed, no key twice, every key known, before anything else looks at them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fedprofile.data.reading import decode, nearest, read_bytes
from fedprofile.errors import DataError


def read_yaml(path: Path, file: str) -> Any:
    """What the file holds; ``file`` is its name in errors. Raises DataError with the line, never the text."""
    return parse_yaml(decode(read_bytes(path, file), file), file)


def parse_yaml(text: str, file: str) -> Any:
    import yaml

    try:
        # In two steps, to look at the keys in between. Not the loader in C: deep brackets overflow its stack.
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _refuse_doubled(node, file)
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        mark = getattr(e, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise DataError(file, f"not valid YAML{where}", "Check indentation, colons and brackets.") from None


def mapping(
    value: Any, file: str, where: str, required: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """``value`` as a mapping that holds every required key and no unknown one."""
    if not isinstance(value, dict):
        raise DataError(file, f"{where} is not a mapping of keys to values", f"Keys: {', '.join(required)}.")
    valid = [*required, *optional]
    for key in value:
        if key not in valid:
            mend = nearest(str(key), valid) or f"Valid keys: {', '.join(valid)}."
            raise DataError(file, f"unknown key {str(key)!r} in {where}", mend)
    for key in required:
        if value.get(key) is None:
            raise DataError(file, f"{where} lacks the key {key!r}", f"Add `{key}:`.")
    return value


def text(value: Any, file: str, where: str) -> str:
    """``value`` as a name; numbers are taken as they are written."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(file, f"`{where}` is not a name", "Write one word; quote words such as yes, no and on.")
    return str(value).strip()


def _refuse_doubled(node: Any, file: str) -> None:
    # A YAML loader silently keeps the last of two equal keys: a party or a column could vanish.
    children = getattr(node, "value", None)
    if not isinstance(children, list):
        return
    seen = set()
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            _refuse_doubled(part, file)
        if isinstance(child, tuple):
            key = str(child[0].value)
            if key in seen:
                line = child[0].start_mark.line + 1
                raise DataError(file, f"the key {key!r} occurs twice (line {line})", "Keep one.")
            seen.add(key)
