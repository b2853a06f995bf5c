"""``fedprofile score BUNDLE IN OUT``: probabilities of every task for a file of customers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `score`."""
    parser = subparsers.add_parser("score", help="score a file of customers with a bundle")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that a training run wrote")
    parser.add_argument("input", type=Path, metavar="IN", help="CSV, CSV.gz or Parquet with the bank's columns")
    parser.add_argument("output", type=Path, metavar="OUT", help="CSV or Parquet to write")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=score)


def score(args: argparse.Namespace) -> int:
    """Raises UsageError or DataError, before anything is written."""
    from fedprofile.registry.batch import score_file

    done = score_file(args.bundle, args.input, args.output, force=args.force)
    print(json.dumps(done) if args.json else f"{done['rows']} rows scored ({done['scores']}): {done['out']}")
    return 0
