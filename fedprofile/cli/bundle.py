"""``fedprofile bundle …``: verify a bundle's files and signature, print whose key signs (no torch, no MLflow for
either), and make its model again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fedprofile.cli import bundle_reproduce
from fedprofile.cli.verbs import add_verb, print_result


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the noun `bundle` with its verbs."""
    parser = subparsers.add_parser("bundle", help="verify a model's files and signature, or make it again")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = add_verb(
        verbs,
        "verify",
        verify,
        "verify that a bundle is whole and signed",
        "fedprofile bundle verify outputs/mine/bundle --key bank.key",
        home=False,
    )
    verb.add_argument("bundle", type=Path, metavar="DIR", help="folder that a training run wrote")
    verb.add_argument("--key", type=Path, metavar="FILE", help="public keys of which one must have signed")
    add_verb(
        verbs,
        "key",
        key,
        "print the public key that a label owner's home signs bundles with",
        "fedprofile bundle key outputs/mine/nodes/bank > bank.key",
    )
    bundle_reproduce.add_verbs(verbs)


def verify(args: argparse.Namespace) -> int:
    """Raises DataError, naming the file, for anything that is not as it was signed."""
    from fedprofile.registry.files import BODY, WEIGHTS, read_sealed
    from fedprofile.registry.seal import read_keys, short

    sealed = read_sealed(args.bundle, trust=None if args.key is None else read_keys(args.key))
    seal = sealed.seal
    meta = json.loads(sealed.files[BODY])["meta"]
    run = meta.get("run") or {}
    size = sum(map(len, sealed.files.values()))
    facts = {"manifest": seal.manifest, "key": seal.key, "pinned": seal.pinned, "bytes": size, "run": run.get("id")}
    whose = "a key you trust" if seal.pinned else "the key inside it; --key FILE asks for the trainer's"
    lines = [
        f"whole: {WEIGHTS} and {BODY}, {size:,} bytes",
        f"signed by {short(seal.key)}, {whose}",
        f"manifest {seal.manifest}",
    ]
    return print_result(args, facts, "\n".join(lines))


def key(args: argparse.Namespace) -> int:
    from fedprofile.node.home import NodeHome
    from fedprofile.secagg.identity import Identity

    public = Identity.from_seed(NodeHome(args.home).derive("identity")).sign_pk.hex()
    return print_result(args, {"key": public}, public)
