"""`fedprofile registry watch`: has the champion's world moved? Exit code 0 no, 3 a retraining is recommended."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli.registry_version import NOUN, actor_if_named, add_actor, add_place, fetcher, opened
from fedprofile.cli.verbs import add_verb, print_result

if TYPE_CHECKING:
    from fedprofile.governance.advice import Advice
    from fedprofile.governance.watch import Outlook
    from fedprofile.registry.home import Registry

RETRAIN = 3
"""Exit code where a retraining is recommended."""


def add_verbs(verbs: Any) -> None:
    watch = add_verb(
        verbs, "watch", _watch, "compare live customers with those whom the champion saw; exit code 3: retrain",
        f"{NOUN} watch --table november.csv --as wang --key wang.key", home=False,
    )  # fmt: skip
    add_actor(watch, required=False)
    add_place(watch)
    watch.add_argument(
        "--table", type=Path, required=True, metavar="FILE", help="live customers, as `score` takes them"
    )
    watch.add_argument("--home", type=Path, metavar="HOME", help="the label owner's, for a bundle without a reference")
    watch.add_argument("--bars", default="default", metavar="NAME", help="a name, or your own YAML file")
    watch.add_argument("--out", type=Path, metavar="DIR", help="also leave report and recommendation here")


def _watch(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from fedprofile.registry.version import have
    from fedprofile.registry.watching import read_watch_settings, watch, write_outlook

    registry, who, settings = opened(args), actor_if_named(args), read_watch_settings(args.bars)
    state = registry.state()
    if state.champion:
        have(registry, state, state.champion, fetcher(registry))
    outlook, advice = watch(registry, args.table, args.home, settings, who)
    if args.out:
        write_outlook(args.out, outlook, advice)
    said = "retrain" if outlook.retrain else "steady"
    today = datetime.fromtimestamp(registry.clock(), UTC).date()
    told = _tell(registry, outlook, f"{said} {today.isoformat()} {outlook.evidence[:16]}")
    facts = {**outlook.to_json(), "evidence": outlook.evidence, "mlflow": told}
    facts["recommendation"] = advice and advice.to_json()
    lines = [*_lines(outlook), _whose(advice), f"evidence: {registry.path}/watch/{outlook.evidence}", told]
    print_result(args, facts, "\n".join(line for line in lines if line))
    return RETRAIN if outlook.retrain else 0


def _lines(outlook: Outlook) -> list[str]:
    w = outlook.watched
    lines = [f"champion {w.manifest[:12]}, {w.rows} live customers, scores {w.scores}, reference from {w.reference}"]
    lines += [
        f"  {'MOVED' if f.moved else 'ok':<8}{f'{f.shift.kind}/{f.shift.subject}':<35} {f.reason}"
        for f in outlook.findings
    ]
    verdict = f"retraining is recommended: {len(outlook.moved)} moved" if outlook.retrain else "nothing has moved"
    return [*lines, *(f"note: {note}" for note in w.notes), verdict]


def _whose(advice: Advice | None) -> str:
    if advice is None:
        return ""
    if advice.signature:
        return f"the recommendation is signed by {advice.person}: {NOUN} retrain --because FILE checks it"
    return "the recommendation is unsigned: a validator or operator signs it with --as and --key"


def _tell(registry: Registry, outlook: Outlook, said: str) -> str:
    """Tag the version in MLflow; the evidence stands whatever becomes of this."""
    from fedprofile.errors import FedprofileError

    version = registry.state().release(outlook.watched.manifest).version
    if registry.tracking is None or not version:
        return "MLflow was not told: it has no such version."
    from fedprofile.mlflow_io.aliases import mark_watched

    try:
        mark_watched(registry.tracking, registry.model, version, said)
    except FedprofileError as error:
        return f"warning: MLflow was not told: {error}"
    return f"MLflow: version {version} is tagged {said}."
