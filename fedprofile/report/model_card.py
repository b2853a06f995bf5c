"""A model card as Markdown, and as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fedprofile.report.markup import Safe, facts, join, table, tag
from fedprofile.report.page import document

__all__ = ["to_html", "to_markdown"]


class Section(Protocol):
    @property
    def title(self) -> str: ...
    @property
    def duty(self) -> str: ...
    @property
    def rows(self) -> Sequence[tuple[str, str]]: ...
    @property
    def table(self) -> Sequence[Sequence[str]]: ...


class Card(Protocol):
    @property
    def title(self) -> str: ...
    @property
    def sections(self) -> Sequence[Section]: ...


def to_markdown(card: Card) -> str:
    """Every text is escaped, so that no name in it becomes markup."""
    lines = [f"# Model card: {_plain(card.title)}", ""]
    for section in card.sections:
        lines += [f"## {_plain(section.title)}", f"*{_plain(section.duty)}*", ""]
        lines += [f"- **{_plain(name)}**: {_plain(value)}" for name, value in section.rows]
        if section.table:
            head, *rows = section.table
            cells = [head, ["---"] * len(head), *rows]
            lines += ["", *("| " + " | ".join(c if c == "---" else _plain(c) for c in row) + " |" for row in cells)]
        lines.append("")
    return "\n".join(lines)


def to_html(card: Card) -> str:
    body: list[Safe] = [tag("p", "fedprofile · model card", class_="eyebrow"), tag("h1", card.title)]
    for section in card.sections:
        body += [tag("h2", section.title), tag("p", section.duty, class_="quiet"), facts(section.rows)]
        if section.table:
            head, *rows = section.table
            body.append(table(list(head), [list(row) for row in rows], words=len(head)))
    return document(f"{card.title} · model card", join(body))


def _plain(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in " ".join(text.split()))
