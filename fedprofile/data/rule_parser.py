"""The parser of rules: recursive descent over at most 400 characters, every operand's sort checked on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from fedprofile.data.contract_rules import Node, Rule, RuleError, Sort
from fedprofile.data.reading import nearest

MAX_TEXT, MAX_DEPTH = 400, 20
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?(?![\w.]))|'(?P<text>[^']*)'|`(?P<quoted>[^`]+)`"
    r"|(?P<name>[^\W\d]\w*)|(?P<sign><=|>=|==|!=|[-+*/()<>,]))"
)
_WORDS = frozenset({"and", "or", "not", "in", "is", "missing", "known"})
_COMPARE = ("<", "<=", ">", ">=", "==", "!=")


def parse_rule(name: str, never: str, sorts: Mapping[str, Sort]) -> Rule:
    """``sorts`` are the columns that the expression may name. Raises RuleError."""
    if len(never) > MAX_TEXT:
        raise RuleError(f"longer than {MAX_TEXT} characters")
    parser = _Parser(_tokens(never), sorts)
    node = parser.either()
    if parser.kind != "end":
        raise RuleError(f"{parser.token!r} stands where the expression should end")
    if node.sort != "truth":
        raise RuleError("it compares nothing")
    rule = Rule(name, never, node)
    if not rule.columns:
        raise RuleError("it names no column")
    return rule


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise RuleError(f"sign {at + 1} is not understood")
        kind = str(match.lastgroup)
        value = match[kind]
        if kind == "name" and value in _WORDS:
            kind = "word"
        tokens.append(("name" if kind == "quoted" else kind, value))
        at = match.end()
    return [*tokens, ("end", "the end")]


class _Parser:
    """Recursive descent; the depth is bounded, so no text can exhaust the stack."""

    def __init__(self, tokens: list[tuple[str, str]], sorts: Mapping[str, Sort]) -> None:
        self.tokens, self.sorts, self.at, self.depth = tokens, sorts, 0, 0

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    @property
    def token(self) -> str:
        return self.tokens[self.at][1]

    def take(self, *wanted: str) -> str:
        """The next word or sign if it is one of ``wanted``, else ""."""
        if self.kind in ("word", "sign") and self.token in wanted:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return ""

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise RuleError(f"{wanted!r} is missing before {self.token!r}")

    def either(self) -> Node:
        node = self.both()
        while self.take("or"):
            node = _joined("or", node, self.both(), "truth", "truth")
        return node

    def both(self) -> Node:
        node = self.negated()
        while self.take("and"):
            node = _joined("and", node, self.negated(), "truth", "truth")
        return node

    def negated(self) -> Node:
        turned = False
        while self.take("not"):
            turned = not turned
        node = self.compared()
        if turned and node.sort != "truth":
            raise RuleError("`not` stands before something that is neither true nor false")
        return Node("not", "truth", (node,)) if turned else node

    def compared(self) -> Node:
        left = self.sum()
        if self.take("is"):
            state = self.take("missing", "known")
            if not state or left.op != "column":
                raise RuleError("write `COLUMN is missing` or `COLUMN is known`")
            return Node(state, "truth", (left,))
        if self.take("in"):
            return self.listed(left)
        op = self.take(*_COMPARE)
        if not op:
            return left
        right = self.sum()
        if self.kind == "sign" and self.token in _COMPARE:
            raise RuleError("write `a < b and b < c`, not a chain")
        left, right = _dated(left, right), _dated(right, left)
        if left.sort != right.sort or left.sort == "truth":
            raise RuleError(f"{op!r} compares a {left.sort} with a {right.sort}")
        return Node(op, "truth", (left, right))

    def listed(self, left: Node) -> Node:
        self.need("(")
        items = [self.atom()]
        while self.take(","):
            items.append(self.atom())
        self.need(")")
        if any(i.op != "literal" or i.sort != left.sort for i in items) or left.sort not in ("number", "text"):
            raise RuleError("`in` needs a list of numbers or of 'texts', as the column has them")
        return Node("in", "truth", (left,), tuple(i.value for i in items))

    def sum(self) -> Node:
        node = self.product()
        while op := self.take("+", "-"):
            node = _joined(op, node, self.product(), "number", "number")
        return node

    def product(self) -> Node:
        node = self.atom()
        while op := self.take("*", "/"):
            node = _joined(op, node, self.atom(), "number", "number")
        return node

    def atom(self) -> Node:
        kind, token = self.kind, self.token
        if self.take("-"):
            inner = self.atom() if self.kind == "number" else None
            if inner is None:
                raise RuleError("a minus sign stands before something that is no number")
            return Node("literal", "number", value=-inner.value)
        if self.take("("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise RuleError(f"more than {MAX_DEPTH} brackets inside each other")
            node = self.either()
            self.need(")")
            self.depth -= 1
            return node
        if kind not in ("number", "text", "name"):
            raise RuleError(f"{token!r} stands where a column, number or text should")
        self.at += 1
        if kind == "number":
            return Node("literal", "number", value=float(token))
        if kind == "text":
            return Node("literal", "text", value=token)
        if token not in self.sorts:
            raise RuleError(f"the contract has no column {token!r}. {nearest(token, list(self.sorts))}".rstrip(". "))
        return Node("column", self.sorts[token], value=token)


def _joined(op: str, left: Node, right: Node, takes: Sort, gives: Sort) -> Node:
    if left.sort != takes or right.sort != takes:
        raise RuleError(f"{op!r} joins a {left.sort} and a {right.sort}")
    return Node(op, gives, (left, right))


def _dated(node: Node, other: Node) -> Node:
    """A text beside a date is one: 'YYYY-MM-DD'."""
    if other.sort != "date" or node.op != "literal" or node.sort != "text":
        return node
    try:
        return Node("literal", "date", value=date.fromisoformat(node.value))
    except ValueError:
        raise RuleError("a date is compared with a text that is not 'YYYY-MM-DD'") from None
