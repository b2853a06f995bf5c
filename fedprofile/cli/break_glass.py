"""`fedprofile consent custodian …` and `fedprofile consent break-glass …`: one value in the clear, by two people."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli.customers import open_home, read_subject
from fedprofile.cli.keys import new_key, public_key, read_key
from fedprofile.cli.verbs import add_ids, add_verb, print_result

if TYPE_CHECKING:
    from fedprofile.governance.break_glass import Approval, Request

_NOUN = "fedprofile consent"


def add_parsers(verbs: Any) -> None:
    """Adds `custodian` and `break-glass` to the noun `consent`."""
    noun = verbs.add_parser("custodian", help="the people who may approve a break-glass read")
    kinds = noun.add_subparsers(dest="what", required=True, metavar="WHAT")
    verb = add_verb(
        kinds, "new", _new, "make a key for one person, on that person's own machine",
        f"{_NOUN} custodian new wang.key", home=False,
    )  # fmt: skip
    verb.add_argument("file", type=Path, metavar="KEYFILE", help="a new file, readable by this user only")
    verb = add_verb(kinds, "add", _add, "register a person", f"{_NOUN} custodian add HOME wang 5f3a...")
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("key", metavar="HEX", help="the person's public key")
    verb = add_verb(
        kinds, "revoke", _dismiss, "no approval of this person counts any more", f"{_NOUN} custodian revoke HOME wang"
    )
    verb.add_argument("name", metavar="NAME")

    noun = verbs.add_parser("break-glass", help="read one customer's sensitive values, approved by two people")
    kinds = noun.add_subparsers(dest="what", required=True, metavar="WHAT")
    verb = add_verb(
        kinds, "request", _request, "write down what is to be read, and why",
        f"{_NOUN} break-glass request HOME request.json --ids id.txt --columns income --reason complaint",
    )  # fmt: skip
    verb.add_argument("file", type=Path, metavar="REQUEST", help="a file to write")
    add_ids(verb)
    verb.add_argument("--columns", required=True, metavar="A,B", help="the columns to read")
    verb.add_argument("--reason", required=True, metavar="CODE", help="complaint, court_order, fraud_inquiry, ...")
    verb.add_argument(
        "--hours", type=int, default=24, help="until when it may be opened (default: %(default)s, at most 72)"
    )
    verb = add_verb(
        kinds, "approve", _approve, "sign a request with one person's key",
        f"{_NOUN} break-glass approve request.json --name wang --key wang.key", home=False,
    )  # fmt: skip
    verb.add_argument("file", type=Path, metavar="REQUEST")
    verb.add_argument("--name", required=True, help="the name under which the person is registered")
    verb.add_argument("--key", type=Path, required=True, metavar="KEYFILE")
    verb = add_verb(
        kinds, "open", _open, "record the read, then show the values",
        f"{_NOUN} break-glass open HOME request.json",
    )  # fmt: skip
    verb.add_argument("file", type=Path, metavar="REQUEST")


def _new(args: argparse.Namespace) -> int:
    key = new_key(args.file).sign_pk.hex()
    return print_result(args, {"key": key}, f"public key, to be registered by the holder:\n{key}")


def _add(args: argparse.Namespace) -> int:
    from fedprofile.governance.break_glass import register
    from fedprofile.node.consent import ledger_of

    home, key = open_home(args), public_key(args.key, f"It is what `{_NOUN} custodian new` printed.")
    with home.lock():
        register(ledger_of(home), args.name, key)
    return print_result(args, {"name": args.name}, f"{args.name} is registered.")


def _dismiss(args: argparse.Namespace) -> int:
    from fedprofile.governance.break_glass import dismiss
    from fedprofile.node.consent import ledger_of

    home = open_home(args)
    with home.lock():
        dismiss(ledger_of(home), args.name)
    return print_result(args, {"name": args.name}, f"{args.name} approves nothing any more.")


def _request(args: argparse.Namespace) -> int:
    from fedprofile.governance.break_glass import request, to_json
    from fedprofile.node.consent import ledger_of

    home = open_home(args)
    columns = [c.strip() for c in args.columns.split(",") if c.strip()]
    with home.lock():
        made = request(ledger_of(home), read_subject(args, home), columns, args.reason, args.hours)
    args.file.write_bytes(to_json(made) + b"\n")
    facts = {"request": made.hash.hex(), "expires": made.expires}
    return print_result(args, facts, f"{args.file}: give it to two custodians, then: {_NOUN} break-glass open")


def _approve(args: argparse.Namespace) -> int:
    from fedprofile.governance.break_glass import approve, to_json

    made, approvals = _read(args.file)
    mine = approve(made, args.name, read_key(args.key, f"{_NOUN} custodian new"))
    args.file.write_bytes(to_json(made, [*approvals, mine]) + b"\n")
    said = f"{args.name} approves: {', '.join(made.columns)} of subject {made.subject}, because of {made.reason}."
    return print_result(args, {"approvals": len(approvals) + 1}, said)


def _open(args: argparse.Namespace) -> int:
    from fedprofile.node.one_customer import open_in_the_clear

    made, approvals = _read(args.file)
    values = open_in_the_clear(open_home(args), made, approvals)
    return print_result(
        args, values, "\n".join(f"{name}: {json.dumps(v, ensure_ascii=False)}" for name, v in values.items())
    )


def _read(file: Path) -> tuple[Request, list[Approval]]:
    from fedprofile.data.reading import read_bytes
    from fedprofile.governance.break_glass import from_json

    return from_json(read_bytes(file, file.name), file.name)
