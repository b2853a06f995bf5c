"""`fedprofile train`: one federated training, or a sweep of them, from Hydra overrides."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.errors import FedprofileError, UsageError

if TYPE_CHECKING:
    from fedprofile.config.compose import Job
    from fedprofile.simulation.job import Result

_EPILOG = """examples:
  fedprofile train
  fedprofile train data=folder data.root=my-data run.dir=outputs/first
  fedprofile train data=k401 federation.members=4 baselines=none -m seed=1,2,3
  fedprofile train --resume outputs/first

Keys and options are listed, with comments, by `fedprofile train --cfg job` and in configs/.
"""
_SUMMARY = ("schema_version", "run", "modes", "statements", "warnings", "tasks", "privacy", "wire", "seconds")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `train`."""
    parser = subparsers.add_parser(
        "train",
        help="train one shared model over all parties",
        description="Train in this process, or on Ray (federation=ray), and compare with what it is measured against.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: every combination of a=1,2 b=3,4")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the result as JSON (a list for a sweep)")
    parser.add_argument("--cfg", choices=["job", "hydra"], help="print the config that would run, and stop")
    parser.add_argument("--resume", metavar="DIR", help="continue an interrupted run, to the same model")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Everything is checked before anything is written: overrides of all jobs, then their folders."""
    with _terminable():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    if args.resume is not None:
        return _resume(args)
    from fedprofile.config.compose import single, sweep
    from fedprofile.config.folder import refuse_used

    jobs = sweep(args.overrides) if args.multirun else [single(args.overrides)]
    if args.cfg:
        print(_config_text(jobs, args.cfg))
        return 0
    if args.multirun:
        refuse_used(Path(jobs[0].hydra.hydra.sweep.dir))
    for job in jobs:
        refuse_used(job.folder)
    return _sweep(jobs, args) if args.multirun else _finish(train_job(args, jobs[0]), args)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: MLflow is told, and the run can be continued."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _config_text(jobs: list[Job], what: str) -> str:
    import yaml
    from omegaconf import OmegaConf

    from fedprofile.config.compose import resolved

    pages = [
        OmegaConf.to_yaml(OmegaConf.masked_copy(job.hydra, "hydra"))
        if what == "hydra"
        else yaml.safe_dump(resolved(job.config), sort_keys=False, allow_unicode=True)
        for job in jobs
    ]
    return "---\n".join(pages).rstrip()


def _sweep(jobs: list[Job], args: argparse.Namespace) -> int:
    """One job after another under one parent run; a failed one does not stop the others, but the exit code says so."""
    from fedprofile.simulation.job import open_sweep

    results, failed = [], 0
    with open_sweep(jobs[0].config) as parent:
        for number, job in enumerate(jobs, 1):
            if not args.quiet:
                print(f"job {number}/{len(jobs)}: {' '.join(job.overrides)}", file=sys.stderr, flush=True)
            try:
                results.append(train_job(args, job, parent=parent, register=False))
                _show(results[-1], args)
            except FedprofileError as error:
                failed += 1
                print(f"error: job {number}/{len(jobs)}: {error}", file=sys.stderr)
    if args.json:
        print(_dump([_summary(result) for result in results]))
    if failed:
        raise FedprofileError(f"{failed} of {len(jobs)} jobs failed", "Their messages are above.")
    return 0


def _resume(args: argparse.Namespace) -> int:
    if args.overrides or args.multirun or args.cfg:
        raise UsageError("--resume takes no overrides: the run goes on with its own config", "Drop them.")
    from fedprofile.config.compose import read

    run_dir = Path(args.resume).expanduser().absolute()
    read(run_dir)
    from fedprofile.cli.progress import watch
    from fedprofile.simulation.job import train

    try:
        with watch(quiet=args.quiet) as observer:
            result = train(resume=str(run_dir), observer=observer)
    except KeyboardInterrupt:
        raise _interrupted(run_dir) from None
    return _finish(result, args)


def train_job(args: argparse.Namespace, job: Job, **how: Any) -> Result:
    """Train with progress, unless ``args.quiet``; ``how`` as ``fedprofile.simulation.job.train`` takes it."""
    from fedprofile.cli.progress import watch
    from fedprofile.simulation.job import train

    made = job.write()
    try:
        with watch(quiet=args.quiet) as observer:
            return train(job.config, observer=observer, **how)
    except KeyboardInterrupt:
        if job.withdraw(made):
            raise
        raise _interrupted(job.folder) from None
    except BaseException:
        job.withdraw(made)
        raise


def _interrupted(run_dir: Path) -> KeyboardInterrupt:
    return KeyboardInterrupt(f"interrupted. Continue with `fedprofile train --resume {run_dir}`")


def _finish(result: Result, args: argparse.Namespace) -> int:
    if args.json:
        print(_dump(_summary(result)))
    _show(result, args)
    return 0


def _show(result: Result, args: argparse.Namespace) -> None:
    if not args.json:
        from fedprofile.report.table import render

        print(render(result.report), flush=True)


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _summary(result: Result) -> dict[str, Any]:
    bundle = None if result.bundle is None else str(result.bundle)
    known = {key: result.report[key] for key in _SUMMARY if key in result.report}
    return {"run_dir": str(result.run_dir), "bundle": bundle, **known}
