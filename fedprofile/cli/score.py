"""``fedprofile score BUNDLE IN OUT``: probabilities of every task for a file of customers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedprofile.governance.permits import Permit


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `score`."""
    parser = subparsers.add_parser("score", help="score a file of customers with a bundle")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that a training run wrote")
    parser.add_argument("input", type=Path, metavar="IN", help="CSV, CSV.gz or Parquet with the bank's columns")
    parser.add_argument("output", type=Path, metavar="OUT", help="CSV or Parquet to write")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    parser.add_argument("--home", type=Path, help="the bank's home: score only whom its consent ledger allows")
    parser.add_argument("--purpose", help="what for, as the ledger words it; needed with --home")
    parser.add_argument("--key", type=Path, metavar="FILE", help="public keys of which one must have signed BUNDLE")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=score)


def score(args: argparse.Namespace) -> int:
    """Raises UsageError or DataError, before anything is written."""
    from fedprofile.registry.batch import score_file
    from fedprofile.registry.seal import read_keys, short

    trust = None if args.key is None else read_keys(args.key)
    done = score_file(args.bundle, args.input, args.output, force=args.force, permit=_permit(args), trust=trust)
    if not done["pinned"]:
        # the researcher's own bundle needs no more; who got one from elsewhere has to know what was not checked
        hint = "whole and signed, by the key inside it; --key FILE asks for the trainer's"
        print(f"note: the bundle is {hint} ({short(done['key'])})", file=sys.stderr)
    withheld = f", {done['withheld']} withheld without consent" if "withheld" in done else ""
    print(json.dumps(done) if args.json else f"{done['rows']} rows scored ({done['scores']}{withheld}): {done['out']}")
    return 0


def _permit(args: argparse.Namespace) -> Permit | None:
    from fedprofile.errors import UsageError

    if (args.home is None) != (args.purpose is None):
        raise UsageError("--home and --purpose come together", "Name both, or neither.")
    if args.home is None:
        return None
    from fedprofile.node.consent import permit_of
    from fedprofile.node.home import NodeHome

    home = NodeHome(args.home)
    if home.config.consent != "ledger":
        raise UsageError(
            f"{args.home} asks nobody: its consent is {home.config.consent}",
            "Score without --home, or with a home that has a consent ledger.",
        )
    return permit_of(home, args.purpose)
