"""``fedprofile bundle reproduce``: make a bundle's model again, independently, and compare."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli.verbs import add_verb, print_result
from fedprofile.errors import UsageError

if TYPE_CHECKING:
    from fedprofile.registry.bundle import Bundle
    from fedprofile.registry.reproduce import Finding, Reproduction
    from fedprofile.types import Weights

RESULT = "reproduce.json"


def add_verbs(verbs: Any) -> None:
    verb = add_verb(
        verbs, "reproduce", _reproduce, "make the model again and compare: exit code 1 where its metrics differ",
        "fedprofile bundle reproduce outputs/mine/bundle --out outputs/again", home=False,
    )  # fmt: skip
    verb.add_argument("bundle", type=Path, metavar="DIR", help="folder that a training run wrote")
    verb.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="where data lie: data.root=…")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the model made again")
    verb.add_argument("--home", type=Path, help="the label owner's, of a deployed training: refit from its score sums")
    verb.add_argument("--start", type=Path, metavar="DIR", help="the bundle from whose weights a retraining began")
    verb.add_argument("--key", type=Path, metavar="FILE", help="public keys of which one must have signed")
    verb.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _reproduce(args: argparse.Namespace) -> int:
    from fedprofile.config.folder import refuse_used
    from fedprofile.registry.bundle import open_bundle
    from fedprofile.registry.reproduce import compare
    from fedprofile.registry.seal import read_keys

    bundle = open_bundle(args.bundle, None if args.key is None else read_keys(args.key))
    refuse_used(args.out.absolute())
    again = _retrained(args, bundle) if args.home is None else _refitted(args)
    done = compare(bundle, open_bundle(again))
    (args.out / RESULT).write_text(json.dumps(done.to_json(), indent=1))
    print_result(args, done.to_json(), "\n".join(_lines(done)))
    return 0 if done.reproduced else 1


def _retrained(args: argparse.Namespace, bundle: Bundle) -> Path:
    """By the configuration in the bundle, with nothing that an earlier run has kept."""
    from fedprofile.cli.train import train_job
    from fedprofile.config.compose import replayed, single

    record = bundle.meta.get("config")
    if record is None:
        mend = "It was trained by deployed nodes: name the label owner's home of that training with --home."
        raise UsageError("the bundle holds no configuration of a training", mend)
    fresh = {"run.dir": str(args.out.absolute()), "baselines.cache": str(args.out.absolute() / "cache")}
    words = [*replayed(record), *args.overrides, "tracking=none", "baselines.enabled=false", *replayed(fresh)]
    if not args.json:
        print(f"Training again, into {args.out}, what {args.bundle} says it was trained as.", file=sys.stderr)
    parent = (bundle.meta.get("parent") or {}).get("manifest")
    return train_job(args, single(words), follows=parent, start=_start(args, bundle)).bundle


def _start(args: argparse.Namespace, bundle: Bundle) -> Weights | None:
    """The weights that a warm start began from, by their hash."""
    from fedprofile.models.layout import start_hash
    from fedprofile.registry.bundle import open_bundle

    wanted = (bundle.meta.get("start") or {}).get("hash")
    shared = None if args.start is None else dict(open_bundle(args.start).shared)
    if (None if shared is None else start_hash(shared).hex()) != wanted:
        what = f"the training began from {'weights of another bundle' if wanted else 'new weights'}"
        raise UsageError(what, "Name its parent's bundle with --start." if wanted else "Leave --start out.")
    return shared


def _refitted(args: argparse.Namespace) -> Path:
    """Fusion and calibration, from the score sums that the home has kept."""
    from fedprofile.deployment.label_owner import conclude
    from fedprofile.node.home import NodeHome

    if args.overrides:
        raise UsageError("--home takes no overrides", "Its training is over: only the bank's own part is made again.")
    return conclude(NodeHome(args.home), args.out, None).bundle


def _lines(done: Reproduction) -> list[str]:
    lines = [f"note: {note}" for note in done.notes]
    lines += [f"  {_mark(f)}{f.what}" for f in done.facts]
    for name in ("tensors", "metrics"):
        found: tuple[Finding, ...] = getattr(done, name)
        equal = sum(f.equal for f in found)
        lines.append(f"  {_mark(*found)}{name}: {equal} of {len(found)} equal to the bit{_worst(found)}")
    kind = "to the bit" if done.identical else "its metrics are the same" if done.reproduced else ""
    return [*lines, f"reproduced: {kind}" if kind else "NOT reproduced"]


def _mark(*found: Finding) -> str:
    return f"{'equal' if all(f.equal for f in found) else 'same' if all(f.same for f in found) else 'DIFFERS':<9}"


def _worst(found: tuple[Finding, ...]) -> str:
    differing = [f for f in found if not f.equal]
    if not differing:
        return ""
    worst = max(differing, key=lambda f: float("inf") if f.largest is None else f.largest)
    return f", most different: {worst.what}" + ("" if worst.largest is None else f" by {worst.largest:.2g}")
