"""`fedprofile coordinator …`: who takes part in a federation, its trainings, and how they go."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli.verbs import add_verb, print_result
from fedprofile.errors import FedprofileError

if TYPE_CHECKING:
    from fedprofile.deployment.coordinator import Coordinator
    from fedprofile.governance.audit_coordinator import Change
    from fedprofile.types import Progress

_VERBS = "fedprofile coordinator"
_CHANGES: dict[str, Change] = {"renew": "renewed", "rotate": "rotated", "retire": "retired"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the noun `coordinator` and its verbs."""
    noun = subparsers.add_parser("coordinator", help="run a federation: enrol parties, train, look")
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Any, help: str, example: str) -> argparse.ArgumentParser:
        parser = add_verb(verbs, name, run, help, f"{_VERBS} {example}", home=False)
        parser.add_argument("dir", type=Path, metavar="DIR", help="the coordinator's folder")
        return parser

    init = verb(
        "init", _init, "make a federation's coordinator", "init coord --name 'Bank and partners' --dial fl.bank"
    )
    init.add_argument("--name", required=True, help="the federation's name, on its certificates")
    init.add_argument("--dial", action="append", default=[], metavar="HOST", help="how nodes reach it; repeatable")
    init.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="where the gate listens")
    init.add_argument("--port", type=int, default=9443, help="the gate's port, the only one that nodes need")
    init.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="limits of its policy: secure.* …")

    enrol = verb("enrol", _enrol, "take a node's request, or a signature of the roster", "enrol coord medical.json")
    enrol.add_argument("files", nargs="+", type=Path, metavar="FILE", help="request.json, or what sign-roster wrote")

    remove = verb("remove", _remove, "let a node in no more, and propose a roster without it", "remove coord shop-2")
    remove.add_argument("party", metavar="PARTY")

    verb("propose", _propose, "have all sign the next roster, of the same parties", "propose coord")

    certificate = verb("certificate", _certificate, "show the certificates; renew or rotate them", "certificate coord")
    change = certificate.add_mutually_exclusive_group()
    change.add_argument("--renew", action="store_true", help="a new server certificate under the same CA")
    change.add_argument("--rotate", action="store_true", help="a new CA; ca.crt holds both until --retire")
    change.add_argument("--retire", action="store_true", help="drop the last CA, once every node has the new ca.crt")

    verb("start", _start, "serve in the foreground until Ctrl-C or SIGTERM", "start coord")
    verb("status", _status, "roster, nodes, the last training", "status coord")
    verb("stop", _stop, "end what `start` runs, or with --training only a training", "stop coord").add_argument(
        "--training", action="store_true", help="stop the last training; it can be resumed"
    )
    run = verb("run", _run, "train; waits for each node's approval of the plan", "run coord seed=1")
    run.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides, as for train")
    run.add_argument("--start", metavar="TRAINING", help="begin from its shared weights: a name, or a plan's hash")
    resume = verb("resume", _resume, "go on with a training from its last round", "resume coord")
    resume.add_argument("name", nargs="?", metavar="TRAINING", help="default: the last one")
    for parser in (run, resume):
        parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
        parser.add_argument("--detach", action="store_true", help="do not wait for the end")


def _open(args: argparse.Namespace) -> Coordinator:
    from fedprofile.deployment.coordinator import Coordinator

    return Coordinator(args.dir)


def _init(args: argparse.Namespace) -> int:
    from fedprofile.deployment.coordinator import Coordinator

    made = Coordinator.create(args.dir, args.name, args.dial, args.listen, args.port, args.overrides)
    fingerprint = made.link.authority.fingerprint()
    facts = {"dir": str(made.folder), "ca": fingerprint, "port": args.port, "audit_key": made.log.key.hex()}
    text = f"Made {made.folder}.\nCA fingerprint (SHA-256): {fingerprint}\nKey of its audit log: {facts['audit_key']}"
    return print_result(args, facts, f"{text}\nNext: {_VERBS} enrol {args.dir} REQUEST …")


def _enrol(args: argparse.Namespace) -> int:
    coordinator = _open(args)
    return _show_enrolled(args, [coordinator.enrol(file) for file in args.files])


def _remove(args: argparse.Namespace) -> int:
    return _show_enrolled(args, [_open(args).remove(args.party)])


def _propose(args: argparse.Namespace) -> int:
    return _show_enrolled(args, [_open(args).propose()])


def _show_enrolled(args: argparse.Namespace, enrolled: list[Any]) -> int:
    facts, lines = [], []
    for e in enrolled:
        version = e.roster.version if e.roster else None
        facts.append(
            {
                "document": e.document, "party": e.party, "fingerprint": e.fingerprint, "roster": version,
                "missing": list(e.missing), "refused": e.refused,
            }
        )  # fmt: skip
        whose = f" of {e.party}" if e.party else ""
        lines.append(f"{e.document}{whose}" + (f", fingerprint {e.fingerprint}" if e.fingerprint else ""))
    last = enrolled[-1]
    if last.refused:
        lines.append(f"No roster can be proposed yet: {last.refused}")
    elif last.missing:
        lines.append(f"Roster version {last.roster.version} waits for: {', '.join(last.missing)}")
        lines.append(f"Send them {args.dir / 'invitation.json'}; each signs it with `fedprofile node sign-roster`.")
    else:
        lines.append(f"Roster version {last.roster.version} is in force.")
    return print_result(args, {"enrolled": facts}, "\n".join(lines))


def _certificate(args: argparse.Namespace) -> int:
    coordinator = _open(args)
    authority = coordinator.link.authority
    invited = False
    for flag, change in _CHANGES.items():
        if getattr(args, flag):
            invited = coordinator.change_certificates(change)
    ends = {name: f"{end:%Y-%m-%d}" for name, end in authority.expires().items()}
    facts = {"file": str(authority.certificate), "fingerprint": authority.fingerprint(), "ends": ends}
    lines = [f"{facts['file']}\nCA fingerprint (SHA-256): {facts['fingerprint']}"]
    lines.append(f"The CA ends on {ends['ca']}, the server certificate on {ends['server']}.")
    if args.renew or args.rotate:
        lines.append("The new server certificate is used from the next start on.")
    if args.rotate:
        lines.append("Until then send every node ca.crt, which goes into its home, and read the fingerprint aloud.")
    if invited:
        lines.append(f"{args.dir / 'invitation.json'} holds ca.crt as it is now: send it again to who has not signed.")
    return print_result(args, facts, "\n".join(lines))


def _start(args: argparse.Namespace) -> int:
    import logging

    from fedprofile.flower.serve import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    coordinator = _open(args)

    def ready(link: Any) -> None:
        try:
            coordinator.admit()
        except FedprofileError as error:  # one party's key must not keep all others out
            logging.error("%s", error)
        print(f"Serving {link.settings.federation} at {link.gate_address}  (Ctrl-C ends it)", flush=True)

    serve(coordinator.folder, ready)
    coordinator.ended()
    return 0


def _status(args: argparse.Namespace) -> int:
    facts = _open(args).status()
    roster = f"roster version {facts['roster']}" if facts["roster"] else "no roster yet"
    if facts["proposal"]:
        roster += f"; version {facts['proposal']} waits for {', '.join(facts['unsigned'])}"
    lines = [f"{facts['federation']}: {'running' if facts['running'] else 'not running'}, {roster}"]
    for node in facts["nodes"]:
        state = f"{node['status']:<16}{node['last_seen'] or '-'}"
        lines.append(f"  {node['party']:<20}{node['role']:<14}{node['release']:<10}{state}")
    training = facts["training"]
    if training:
        more = " ".join(f"{k} {v}" for k, v in training.items() if k not in ("name", "state", "at") and v is not None)
        lines.append(f"training {training['name']}: {training['state']} {more}")
    return print_result(args, facts, "\n".join(lines))


def _stop(args: argparse.Namespace) -> int:
    coordinator = _open(args)
    if args.training:
        folder = coordinator.stop_training()
        return print_result(
            args, {"stopped": folder.name}, f"Stopped {folder.name}; {_VERBS} resume {args.dir} goes on."
        )
    ended = coordinator.stop()
    return print_result(args, {"stopped": ended}, "Stopped." if ended else "Nothing was running.")


def _run(args: argparse.Namespace) -> int:
    coordinator = _open(args)
    return _train(args, coordinator, coordinator.prepare(args.overrides, args.start))


def _resume(args: argparse.Namespace) -> int:
    coordinator = _open(args)
    return _train(args, coordinator, coordinator.run_folder(args.name))


def _train(args: argparse.Namespace, coordinator: Coordinator, folder: Path) -> int:
    from fedprofile.coordinator.job import Job
    from fedprofile.deployment.following import follow

    plan = Job.from_json((folder / "job.json").read_text()).plan
    flower_run = coordinator.submit(folder)
    facts = {"training": folder.name, "plan": plan.hash.hex(), "flower_run": str(flower_run)}
    if args.detach:
        return print_result(args, facts, f"Training {folder.name} has begun; plan {facts['plan'][:12]}.")
    if not args.quiet:
        print(f"training {folder.name}, plan {facts['plan'][:12]}", file=sys.stderr, flush=True)
    follow(coordinator, folder, _observer(args.quiet))
    return print_result(args, facts, f"Training {folder.name} is finished; the label owner concludes it.")


def _observer(quiet: bool) -> Any:
    waiting: list[tuple[str, ...]] = [()]

    def observe(step: Progress, parties: tuple[str, ...]) -> None:
        if quiet:
            return
        if parties:
            if parties != waiting[0]:
                print(f"waiting for approval: {', '.join(parties)}", file=sys.stderr, flush=True)
            waiting[0] = parties
            return
        loss = f" loss {step.loss:.4f}" if step.loss is not None else ""
        count = f" {step.round}/{step.rounds}" if step.rounds else ""
        print(f"{step.stage}{count}{loss}", file=sys.stderr, flush=True)

    return observe
