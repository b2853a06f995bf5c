"""`fedprofile data init|check|describe`: make, check and understand a federation folder."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedprofile.data.federation import Federation

_RAW = argparse.RawDescriptionHelpFormatter


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the noun `data` and its verbs; each sets ``run(args) -> exit code``."""
    noun = subparsers.add_parser("data", help="make, check and understand a federation folder (your own tables)")
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")

    init = _verb(verbs, "init", "write an example folder to fill with your own tables", "fedprofile data init my-data")
    init.add_argument("dir", metavar="DIR", help="a new or empty folder")
    init.add_argument(
        "--parties",
        metavar="A,B,C",
        default="bank,ecommerce,medical,tax",
        help="2 to 10 names, the label owner first (default: %(default)s)",
    )
    init.set_defaults(run=_init)

    check = _verb(verbs, "check", "check a folder: 0 if it can be trained on", "fedprofile data check my-data")
    check.add_argument("dir", metavar="DIR", help="a folder with a federation.yaml")
    check.set_defaults(run=_check)

    about = _verb(verbs, "describe", "counts and rates of a folder or source", "fedprofile data describe nhanes")
    about.add_argument("what", metavar="DIR|NAME", help="a folder, or a registered source such as nhanes or k401")
    about.set_defaults(run=_describe)


def _verb(verbs: Any, name: str, help: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=help, description=help.capitalize() + ".", epilog=f"example:\n  {example}", formatter_class=_RAW
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _init(args: argparse.Namespace) -> int:
    from fedprofile.data.writing import init_folder

    parties = [p.strip() for p in args.parties.split(",") if p.strip()]
    init_folder(args.dir, parties)
    if args.json:
        print(json.dumps({"dir": args.dir, "parties": parties}))
    else:
        print(f"Wrote {args.dir}: federation.yaml and invented tables for {', '.join(parties)}.")
        print(f"Replace them with your own, then: fedprofile data check {args.dir}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from fedprofile.data.folder import load_federation
    from fedprofile.errors import DataError

    try:
        federation = load_federation(args.dir)
    except DataError as e:
        if not args.json:
            raise
        report = {"ok": False, "file": e.file, "column": e.column, "count": e.count, "what": e.what, "mend": e.mend}
        print(json.dumps(report, ensure_ascii=False))
        return e.exit_code
    notes = list(federation.warnings)
    if len(federation.tables) == 2:
        notes.append("two parties: a sum over one partner hides nothing; training refuses it unless told otherwise")
    if args.json:
        print(json.dumps({"ok": True, "warnings": notes}, ensure_ascii=False))
        return 0
    rows = ", ".join(f"{party} {len(table)}" for party, table in federation.tables.items())
    print(f"{args.dir} is in order: {rows} customers; tasks {', '.join(t.name for t in federation.tasks)}.")
    for note in notes:
        print(f"warning: {note}")
    return 0


def _describe(args: argparse.Namespace) -> int:
    from fedprofile.data.describe import describe

    report = describe(_open(args.what))
    print(json.dumps(report, ensure_ascii=False, indent=2) if args.json else _page(report))
    return 0


def _open(what: str) -> Federation:
    from pathlib import Path

    from fedprofile.data.folder import load_federation
    from fedprofile.data.reading import nearest
    from fedprofile.data.sources import open_source, source_names
    from fedprofile.errors import UsageError

    names = source_names()
    if what in names and not Path(what).is_dir():
        return open_source(what, None)
    if not Path(what).is_dir():
        mend = nearest(what, names) or f"Sources: {', '.join(names)}."
        raise UsageError(f"{what!r} is neither a folder nor a registered source", mend)
    return load_federation(what)


def _page(report: dict[str, Any]) -> str:
    lines = [f"{report['name']}: {len(report['parties'])} parties, labels of {report['label_owner']}", ""]
    lines.append(f"{'party':<16}{'customers':>10}{'numeric':>9}{'categorical':>13}{'missing':>9}{'shared':>9}")
    for party, table in report["parties"].items():
        shared = report["overlap"].get(party, {}).get("customers", "")
        cells = f"{table['rows']:>10}{table['numeric']:>9}{table['categorical']:>13}{table['missing']:>9.1%}{shared:>9}"
        lines.append(f"{party:<16}{cells}")
    lines += ["", f"customers of {report['label_owner']} by number of partners that know them:"]
    lines.append("  " + ", ".join(f"{n}: {count}" for n, count in report["views"].items()))
    lines += ["", f"{'task':<16}{'kind':<9}{'known':>10}{'unknown':>9}  rates by class"]
    for name, task in report["tasks"].items():
        rates = " ".join(f"{rate:.3f}" for rate in task["rates"])
        lines.append(f"{name:<16}{task['kind']:<9}{task['known']:>10}{task['missing']:>9}  {rates}")
    for party, table in report["parties"].items():
        lines += ["", f"columns of {party}:"]
        for name, column in table["columns"].items():
            kind = f"{column['levels']} levels" if column["kind"] == "categorical" else "numeric"
            lines.append(f"  {name:<40}{kind:<12}{column['missing']:>7.1%} missing")
    lines += [f"warning: {note}" for note in report["warnings"]]
    return "\n".join(lines)
