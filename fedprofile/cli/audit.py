"""`fedprofile audit …`: check an audit log, anybody's, and write the quarterly data-use report from it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedprofile.cli.keys import hex32, public_key
from fedprofile.cli.verbs import add_verb, print_result

_NOUN = "fedprofile audit"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the noun `audit` and its verbs."""
    noun = subparsers.add_parser("audit", help="check an audit log; the quarterly data-use report")
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = add_verb(
        verbs, "verify", _verify, "check every line, signature and checkpoint of a node's or a coordinator's log",
        f"{_NOUN} verify clinic-a-log --key 5f3a... --head 90b1...", home=False,
    )  # fmt: skip
    verb.add_argument("folder", type=Path, metavar="DIR", help="the folder of audit.jsonl and audit.head")
    verb.add_argument("--key", metavar="HEX", help="its public key, as roster or invitation names it")
    verb.add_argument("--head", action="append", default=[], metavar="HEX", help="a head that somebody else holds")
    verb.add_argument("--peer", type=Path, metavar="DIR", help="another party's log: the heads that it holds")
    verb = add_verb(
        verbs, "report", _report, "who used which fields for what, what left, what was refused, in one quarter",
        f"{_NOUN} report my-node --quarter 2026Q4 --out report.html", home=False,
    )  # fmt: skip
    verb.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="HOME", help="default: this folder")
    verb.add_argument("--quarter", required=True, metavar="YYYYQn", help="by UTC, 2026Q4 for example")
    verb.add_argument("--key", metavar="HEX", help="the party's public key, as the roster names it")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="an HTML file to write")


def _verify(args: argparse.Namespace) -> int:
    from fedprofile.governance.audit_verify import verify_shown

    heads = [hex32(text, "a head", "Copy it from the partner's own log or audit.head.") for text in args.head]
    done = verify_shown(args.folder, public_key(args.key) if args.key else None, heads, args.peer)
    return print_result(args, done.to_json(), done.to_text())


def _report(args: argparse.Namespace) -> int:
    from fedprofile.governance.audit_verify import verify_log
    from fedprofile.report.data_use import Quarter, summarise
    from fedprofile.report.page_data_use import write_page

    quarter = Quarter.parse(args.quarter)
    records: list[dict[str, Any]] = []
    verified = verify_log(args.folder, public_key(args.key) if args.key else None, each=records.append)
    use = summarise(records, quarter)
    write_page(use, quarter, verified, args.out)
    facts: dict[str, Any] = {"out": str(args.out), "head": verified.head.hash.hex(), **use.totals()}
    said = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in use.totals().items())
    return print_result(args, facts, f"{args.out}: {quarter.name} of {verified.party}: {said}.")
