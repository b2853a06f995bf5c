"""What the verbs of a node's home have in common."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, example: str, *, home: bool = True
) -> argparse.ArgumentParser:
    """A verb with ``--json`` and, unless it needs none, the node's home as its first argument."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if home:
        parser.add_argument("home", type=Path, metavar="HOME", help="the node's home")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def add_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ids", required=True, metavar="FILE", help="customer ids, one a line; - for stdin")


def print_result(args: argparse.Namespace, facts: Mapping[str, Any], text: str) -> int:
    print(json.dumps(facts, ensure_ascii=False) if args.json else text)
    return 0
