"""`fedprofile registry retrain`: from the champion's own configuration to a judged challenger, in one command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli.registry_version import NOUN, actor, add_actor, add_place, fetcher, opened
from fedprofile.cli.verbs import add_verb

if TYPE_CHECKING:
    from fedprofile.config.compose import Job
    from fedprofile.registry.home import Registry


def add_verbs(verbs: Any) -> None:
    retrain = add_verb(
        verbs, "retrain", _retrain, "train again as the champion was trained, and judge the result beside it",
        f"{NOUN} retrain data.root=november federation.secrets=keys run.dir=next --as wang --key wang.key", home=False,
    )  # fmt: skip
    retrain.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="what is to differ")
    add_actor(retrain)
    add_place(retrain)
    retrain.add_argument("--cold", action="store_true", help="begin from new weights, not from the champion's")
    retrain.add_argument(
        "--because", type=Path, metavar="FILE", help="a signed recommendation.json of `watch`, for the log"
    )
    retrain.add_argument("--promotion", default="default", metavar="NAME", help="bars: a name, or your own YAML file")
    retrain.add_argument("--out", type=Path, metavar="DIR", help="also leave the gate report here")
    retrain.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _retrain(args: argparse.Namespace) -> int:
    """Everything that can be refused is, before hours of training: person, key, bars, configuration, data."""
    import sys

    from fedprofile.cli.registry_gate import run_gates
    from fedprofile.cli.train import train_job
    from fedprofile.config.folder import refuse_used
    from fedprofile.errors import UsageError
    from fedprofile.registry.bundle import open_bundle
    from fedprofile.registry.gating import read_gate_settings
    from fedprofile.registry.version import have
    from fedprofile.registry.watching import signed_advice

    registry, who, settings = opened(args), actor(args), read_gate_settings(args.promotion)
    state = registry.state()
    registry.check(state, who.id, who.key, "gate")
    champion = state.champion
    if champion is None:
        raise UsageError("this registry has no champion", "Train and promote a version first.")
    because = None if args.because is None else signed_advice(registry, state, args.because)
    have(registry, state, champion, fetcher(registry))
    trainer = state.release(champion).trainer
    registry.shelf.read(champion, trainer)
    bundle = open_bundle(registry.shelf.folder(champion), frozenset({bytes.fromhex(trainer)}))
    job = _job(registry, bundle.meta, args.overrides)
    start = None if args.cold else dict(bundle.shared) or None
    refuse_used(job.folder)
    owner = _check_data(job, bundle.meta)
    begun = "from its trunk and heads, encoders new" if start else "from new weights"
    if not args.json:
        said = f"Training as champion {champion[:12]} was trained, {begun}, into {job.folder}."
        print(said, file=sys.stderr, flush=True)
    result = train_job(args, job, follows=champion, start=start)
    manifest = registry.shelf.put(result.bundle)
    home = result.run_dir / "nodes" / owner
    return run_gates(args, registry, who, settings, manifest, result.version or "", home, because)


def _job(registry: Registry, meta: Mapping[str, Any], overrides: list[str]) -> Job:
    from fedprofile.config.compose import replayed, single
    from fedprofile.config.folder import home
    from fedprofile.errors import UsageError
    from fedprofile.mlflow_io.store import default_uri

    record = meta.get("config")
    if record is None:
        by = f"fedprofile coordinator run DIR --start {str(meta.get('plan'))[:12]}"
        mend = f"A coordinator conducted it, or an earlier version: train there ({by}), then gate the bundle."
        raise UsageError("the champion's bundle holds no configuration of a training", mend)
    store = ["tracking=none"] if registry.tracking is None else []
    if registry.tracking not in (None, default_uri(home())):
        store = replayed({"tracking.uri": registry.tracking})
    return single([*store, *replayed(record), *overrides])


def _check_data(job: Job, meta: Mapping[str, Any]) -> str:
    """The label owner of the data. Raises UsageError where its key would be another than the champion's trainer's."""
    from fedprofile.data.sources import open_source
    from fedprofile.errors import UsageError
    from fedprofile.simulation.homes import is_simulated

    federation = open_source(job.config.data.source, job.config.data.root)
    if is_simulated(job.config.federation.secrets) and federation.digest.hex() != meta.get("data"):
        what = "simulated keys are drawn from the data, and these are not the champion's data: another would be trainer"
        raise UsageError(what, "Train champion and challenger with the nodes' own keys: federation.secrets=DIR.")
    return federation.label_owner
