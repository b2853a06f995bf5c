"""``fedprofile score BUNDLE IN OUT``: probabilities of every task for a file of customers.

BUNDLE is a folder, or ``@champion``: the champion of a registry, beside which its shadow scores silently.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fedprofile.errors import UsageError

if TYPE_CHECKING:
    from fedprofile.governance.permits import Permit
    from fedprofile.registry.batch import Shadow
    from fedprofile.registry.seal import Trust

CHAMPION = "@champion"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `score`."""
    parser = subparsers.add_parser("score", help="score a file of customers with a bundle")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that a training run wrote, or @champion")
    parser.add_argument("--registry", type=Path, metavar="DIR", help="of @champion; default: under FEDPROFILE_HOME")
    parser.add_argument("input", type=Path, metavar="IN", help="CSV, CSV.gz or Parquet with the bank's columns")
    parser.add_argument("output", type=Path, metavar="OUT", help="CSV or Parquet to write")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    parser.add_argument(
        "--home",
        type=Path,
        help="the bank's home: score only whom its consent ledger allows, and with partners only while they keep "
        "the bundle's encoders",
    )
    parser.add_argument("--purpose", help="what for, as the ledger words it; needed with --home")
    parser.add_argument("--key", type=Path, metavar="FILE", help="public keys of which one must have signed BUNDLE")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=score)


def score(args: argparse.Namespace) -> int:
    """Raises UsageError or DataError, before anything is written."""
    from fedprofile.registry.batch import score_file
    from fedprofile.registry.seal import read_keys, short

    bundle, trust, shadow = args.bundle, None if args.key is None else read_keys(args.key), None
    if str(bundle) == CHAMPION:
        bundle, trust, shadow = _champion(args)
    elif args.registry is not None:
        raise UsageError("--registry goes with @champion", f"Give {CHAMPION} as BUNDLE, or leave --registry out.")
    permit, finished = _permit(args), _finished(args)
    done = score_file(
        bundle, args.input, args.output,
        force=args.force, permit=permit, trust=trust, shadow=shadow, finished=finished,
    )  # fmt: skip
    if "why_alone" in done:
        which = "champion" if str(args.bundle) == CHAMPION else "bundle"
        print(f"note: the {which} is served bank alone: {done['why_alone']}", file=sys.stderr)
    if str(done.get("shadow", "")).startswith("did not"):
        print(f"warning: the shadow {done['shadow']}", file=sys.stderr)
    if not done["pinned"]:
        # the researcher's own bundle needs no more; who got one from elsewhere has to know what was not checked
        hint = "whole and signed, by the key inside it; --key FILE asks for the trainer's"
        print(f"note: the bundle is {hint} ({short(done['key'])})", file=sys.stderr)
    withheld = f", {done['withheld']} withheld without consent" if "withheld" in done else ""
    print(json.dumps(done) if args.json else f"{done['rows']} rows scored ({done['scores']}{withheld}): {done['out']}")
    return 0


def _champion(args: argparse.Namespace) -> tuple[Path, Trust, Shadow | None]:
    """The champion's bundle and its trainer's key, by the signed log; the shadow, if there is one."""
    from fedprofile.cli.registry_version import fetcher, opened
    from fedprofile.registry.batch import Shadow
    from fedprofile.registry.version import have

    if args.key is not None:
        raise UsageError("--key does not go with @champion", "The registry knows whose key has to be on it.")
    registry = opened(args)
    state = registry.state()
    if state.champion is None:
        raise UsageError("this registry has no champion", "Promote a version, or name a bundle's folder.")
    found: list[tuple[Path, Trust]] = []
    for manifest in (state.champion, state.shadow):
        if manifest is not None:
            have(registry, state, manifest, fetcher(registry))
            found.append((registry.shelf.folder(manifest), frozenset({bytes.fromhex(state.release(manifest).trainer)})))
    beside = Shadow(registry.path, *found[1]) if state.shadow else None
    return *found[0], beside


def _finished(args: argparse.Namespace) -> list[str] | None:
    """Of which runs the partners keep encoders, by the bank's home; None without one."""
    if args.home is None:
        return None
    from fedprofile.node.home import NodeHome
    from fedprofile.registry.serving import kept_runs

    return kept_runs(NodeHome(args.home))


def _permit(args: argparse.Namespace) -> Permit | None:
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
