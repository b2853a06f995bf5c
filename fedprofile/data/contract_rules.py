"""Impossible combinations: a small expression over the columns of one row, parsed here, computed by polars.

::

    Diastolic >= Systolic
    Age < 25 and MaritalStatus == 'Widowed'
    Weight / (Height / 100) / (Height / 100) > 1.1 * BMI
    Started is known and not (Smokes in ('daily', 'sometimes'))

Words: ``and or not in is missing known``, ``< <= > >= == !=``, ``+ - * /``, numbers, 'texts', column names, and
`names with other signs` between backticks. Nothing is ever evaluated as Python. A comparison with a missing cell, or
a division by zero, is not known, and a row breaks a rule only where the rule is known to hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import polars as pl

Sort = Literal["number", "text", "date", "truth"]


class RuleError(Exception):
    """What is wrong with an expression, in words for its author."""


@dataclass(frozen=True)
class Node:
    """A parsed expression: ``op`` with operands; a leaf has its name or value in ``value``."""

    op: str
    sort: Sort
    args: tuple[Node, ...] = ()
    value: Any = None


@dataclass(frozen=True)
class Rule:
    """``never``: what no true record shows, as written and as parsed."""

    name: str
    never: str
    parsed: Node

    @property
    def columns(self) -> frozenset[str]:
        return _names(self.parsed)


def rule_expr(node: Node) -> pl.Expr:
    """The polars expression: true where the combination is there, null where a cell that matters is missing."""
    import polars as pl

    if node.op == "column":
        return pl.col(node.value)
    if node.op == "literal":
        return pl.lit(node.value)
    args = [rule_expr(a) for a in node.args]
    if node.op == "in":
        return args[0].is_in(list(node.value))
    if len(args) == 1:
        one: dict[str, Any] = {
            "not": lambda x: ~x,
            "-": lambda x: -x,
            "missing": pl.Expr.is_null,
            "known": pl.Expr.is_not_null,
        }
        single: pl.Expr = one[node.op](args[0])
        return single
    left, right = args
    if node.op == "/":
        return left / pl.when(right != 0).then(right)
    two = {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
    }
    result: pl.Expr = two[node.op](left, right)
    return result


def _names(node: Node) -> frozenset[str]:
    own = {node.value} if node.op == "column" else set()
    return frozenset(own.union(*(_names(a) for a in node.args)))
