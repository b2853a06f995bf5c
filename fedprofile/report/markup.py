"""HTML by construction: every text is escaped unless it is ``Safe``, so no name in a report can become markup."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from pathlib import Path

from fedprofile.report.words import clean


class Safe(str):
    """Markup that is already escaped; only this module makes it from text."""

    __slots__ = ()


def escape(text: str) -> Safe:
    """The text as it may stand in an element or a quoted attribute."""
    return text if isinstance(text, Safe) else Safe(html.escape(clean(text)))


def tag(name: str, *children: str, **attributes: str) -> Safe:
    """An element; ``class_`` stands for class."""
    given = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value)
    return Safe(f"<{name}{given}>{''.join(map(escape, children))}</{name}>")


def join(parts: Iterable[str]) -> Safe:
    return Safe("".join(map(escape, parts)))


def table(head: list[str], rows: Iterable[list[str]], caption: str = "", strong: str = "", words: int = 1) -> Safe:
    """A table whose first ``words`` columns are text and the others numbers; the row named ``strong`` stands out."""
    kinds = ["" if i < words else "n" for i in range(len(head))]
    header = tag("tr", *(tag("th", h, scope="col", class_=k) for h, k in zip(head, kinds, strict=True)))
    body = []
    for row in rows:
        cells = [tag("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)]
        body.append(tag("tr", tag("th", row[0], scope="row"), *cells, class_="strong" if row[0] == strong else ""))
    inside = tag("caption", caption) if caption else Safe("")
    return tag("div", tag("table", inside, tag("thead", header), tag("tbody", *body)), class_="scroll")


def facts(rows: Iterable[tuple[str, str]]) -> Safe:
    """Name and value pairs."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows))


def listing(items: Iterable[str]) -> Safe:
    return tag("ul", *(tag("li", item) for item in items))


def picture(png: Path, alt: str) -> Safe:
    """The image itself, inside the page."""
    data = base64.b64encode(png.read_bytes()).decode()
    return Safe(f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}"></figure>')
