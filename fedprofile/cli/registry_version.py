"""What the verbs of `fedprofile registry` share: the home, who acts with which key, which version, telling MLflow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli.keys import read_key
from fedprofile.cli.verbs import print_result

if TYPE_CHECKING:
    from fedprofile.governance.promotion import State
    from fedprofile.registry.home import Registry
    from fedprofile.registry.promote import Actor
    from fedprofile.registry.version import Fetch

NOUN = "fedprofile registry"
MAKER = f"{NOUN} person new"


def add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registry", type=Path, metavar="DIR", help="default: registry under FEDPROFILE_HOME")


def add_actor(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--as", dest="person", required=required, metavar="ID", help="who you are in people.json")
    parser.add_argument("--key", type=Path, required=required, metavar="FILE", help="your own key, from `person new`")


def place(args: argparse.Namespace) -> Path:
    from fedprofile.config.folder import home

    return Path(args.registry or home() / "registry").expanduser().absolute()


def opened(args: argparse.Namespace) -> Registry:
    from fedprofile.registry.home import load

    return load(place(args))


def actor(args: argparse.Namespace) -> Actor:
    from fedprofile.registry.promote import Actor

    return Actor(args.person, read_key(args.key, MAKER))


def actor_if_named(args: argparse.Namespace) -> Actor | None:
    """None where neither --as nor --key is given. Raises UsageError for one without the other."""
    from fedprofile.errors import UsageError

    if (args.person is None) != (args.key is None):
        raise UsageError("--as and --key go together", "Give both, or neither.")
    return None if args.person is None else actor(args)


def fetcher(registry: Registry) -> Fetch | None:
    """Downloads from the registry's MLflow, if it has one; mlflow is imported when it is called."""
    uri = registry.tracking
    if uri is None:
        return None

    def fetch(version: str, into: Path) -> Path:
        from fedprofile.mlflow_io.aliases import fetch

        return fetch(uri, registry.model, version, into)

    return fetch


def tell(registry: Registry, state: State) -> dict[str, Any]:
    """Let MLflow follow the head, which stands whatever becomes of this."""
    from fedprofile.errors import FedprofileError

    if registry.tracking is None:
        return {"mlflow": "none"}
    from fedprofile.mlflow_io.aliases import sync
    from fedprofile.mlflow_io.standing import Standing

    try:
        sync(registry.tracking, registry.model, Standing.of(state, registry.shelf.report))
    except FedprofileError as error:
        return {"mlflow": "behind", "why": str(error)}
    return {"mlflow": "follows"}


def done(args: argparse.Namespace, registry: Registry, state: State, said: str, **facts: Any) -> int:
    """The line is in the log: say so at once, and then whether MLflow follows."""
    if not args.json:
        print(f"{said}\nlog: line {state.head.seq}, head {state.head.hash.hex()[:16]}", flush=True)
    told = tell(registry, state)
    facts |= {"line": state.head.seq, "head": state.head.hash.hex(), **told}
    words = {"behind": f"warning: done, but MLflow is behind: {told.get('why')}", "follows": "MLflow follows."}
    return print_result(args, facts, words.get(told["mlflow"], "This registry has no MLflow."))
