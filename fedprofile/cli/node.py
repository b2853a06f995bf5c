"""`fedprofile node …`: a partner's node, from an empty folder to a running member that can prove what it did."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli import node_table
from fedprofile.cli.verbs import add_verb, print_result

if TYPE_CHECKING:
    from fedprofile.node.home import NodeHome

_VERBS = "fedprofile node"
_DAYS = 30


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the noun `node` and its verbs."""
    noun = subparsers.add_parser("node", help="a partner's node: make, check, join, approve, run, prove")
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Any, help: str, example: str) -> argparse.ArgumentParser:
        return add_verb(verbs, name, run, help, f"{_VERBS} {example}")

    init = verb("init", _init, "make a node: keys, contract, request", "init my-node --party clinic-a --role medical")
    init.add_argument("--party", required=True, help="its name in the federation")
    init.add_argument("--role", required=True, help="bank, ecommerce, medical, tax, or one of your own with --contract")
    init.add_argument("--org", default="", help="the organisation's full name (default: the party)")
    init.add_argument("--contract", type=Path, metavar="FILE", help="default: the one shipped for the role")
    init.add_argument("--secure", choices=["strict", "resilient"], default="strict", help="default: %(default)s")
    init.add_argument("--align", choices=["psi", "plain"], default="psi", help="default: %(default)s")
    init.add_argument("--kem", choices=["x25519", "x25519_mlkem768"], default="x25519", help="default: %(default)s")
    init.add_argument("--encrypt", action="store_true", help="encrypt both private keys under a passphrase")
    init.add_argument("--consent", choices=["ledger", "simulated"], default="ledger", help="default: %(default)s")

    node_table.add_verbs(verbs)

    labels = verb(
        "labels", _labels, "the label owner's labels, by task", "labels my-node labels.csv --task tier=ordinal"
    )
    labels.add_argument("file", type=Path, metavar="FILE", help="CSV or Parquet: id, and one column a task")
    labels.add_argument("--id", default="id", metavar="COLUMN", help="default: %(default)s")
    labels.add_argument("--task", action="append", required=True, metavar="NAME=KIND", help="ordinal or binary")
    labels.add_argument("--fold", type=int, default=0, choices=range(5), help="rotates the split (default: 0)")

    help = "train one round with invented partners on this machine; list what would leave"
    verb("dry-run", _dry_run, help, "dry-run my-node")

    sign = verb("sign-roster", _sign, "look at a proposed roster, and sign it", "sign-roster my-node invitation.json")
    sign.add_argument("invitation", type=Path, metavar="INVITATION")
    sign.add_argument("--yes", action="store_true", help="the fingerprint was compared; sign without asking")
    sign.add_argument("--out", type=Path, metavar="FILE", help="default: PARTY.signature.json here")

    start = verb("start", _start, "run the node in the foreground until Ctrl-C or SIGTERM", "start my-node")
    start.add_argument(
        "--health-port", type=int, default=0, metavar="PORT", help="/health and /metrics on 127.0.0.1 (default: any)"
    )
    verb("pause", _pause, "at once: nothing more leaves, until `resume`", "pause my-node")
    verb("resume", _resume, "let messages leave again", "resume my-node")
    verb("status", _status, "where the node stands", "status my-node")
    verb("audit", _audit, "verify the audit log; what was used and what left, in short", "audit my-node")
    verb("encoders", _encoders, "what is kept of the last finished runs: is it what was signed?", "encoders my-node")
    verb("plans", _plans, "plans that asked for approval", "plans my-node")
    approve = verb("approve", _approve, "approve a plan, after reading it", "approve my-node 3f0a")
    approve.add_argument("--days", type=int, default=_DAYS, help="for so many days (default: %(default)s)")
    help = "for so many runs in all: later plans that ask for no more run without asking (default: this plan's alone)"
    approve.add_argument("--runs", type=int, default=1, metavar="N", help=help)
    refuse = verb("refuse", _refuse, "refuse a plan", "refuse my-node 3f0a")
    for parser in (approve, refuse):
        parser.add_argument("plan", metavar="PLAN", help="its id, or the beginning of it")

    policy = verb("policy", _policy, "show this node's own limits, or tighten them", "policy my-node max_uploads=100")
    policy.add_argument("changes", nargs="*", default=[], metavar="KEY=VALUE")

    _add_conclude(
        verb("conclude", _conclude, "the label owner: fuse, judge, write the model", "conclude my-node --out m1")
    )

    bundle = add_verb(
        verbs, "bundle", _bundle, "all wheels, hashes and an SBOM, to install without a network",
        f"{_VERBS} bundle fedprofile-node", home=False,
    )  # fmt: skip
    bundle.add_argument("out", type=Path, metavar="DIR", help="a new folder")
    bundle.add_argument("--wheel", type=Path, metavar="FILE", help="fedprofile's own; default: built from its source")

    verb("rotate", _rotate, "make a new key for dialling", "rotate my-node")
    verb("leave", _leave, "after a roster without this node: forget the run's state", "leave my-node")


def _add_conclude(conclude: argparse.ArgumentParser) -> None:
    which = conclude.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path, metavar="DIR", help="a new folder")
    which.add_argument("--drop", action="store_true", help="make no model of it: the next plan may begin")
    conclude.add_argument("--tracking", metavar="URI", help="the bank's own MLflow store; default: none")


def _home(args: argparse.Namespace) -> NodeHome:
    from fedprofile.node.home import NodeHome

    return NodeHome(args.home)


def _init(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import make_node
    from fedprofile.node.secret import find_passphrase

    who = (args.party, args.role, args.org or args.party)
    choices = {"profile": args.secure, "align": args.align, "kem": args.kem}
    passphrase = find_passphrase(new=True) if args.encrypt else None
    request = make_node(args.home, *who, args.contract, args.consent, passphrase, **choices)
    last = f"Next: write {args.home / 'source.yaml'}, then `{_VERBS} map {args.home} --suggest`."
    return _request(args, request, f"Made {args.home}.", last)


def _request(args: argparse.Namespace, request: Any, first: str, last: str) -> int:
    file = args.home / "request.json"
    facts = {"home": str(args.home), "request": str(file), "fingerprint": request.fingerprint}
    said = f"{first}\nSend the coordinator {file}; read it aloud: {request.fingerprint}\n{last}"
    return print_result(args, facts, said)


def _labels(args: argparse.Namespace) -> int:
    from fedprofile.deployment.label_owner import give_labels
    from fedprofile.errors import UsageError

    kinds: Any = dict(task.partition("=")[::2] for task in args.task)
    if wrong := [t for t, kind in kinds.items() if kind not in ("ordinal", "binary")]:
        raise UsageError(f"--task {wrong[0]} has no kind", "Write NAME=ordinal or NAME=binary.")
    request = give_labels(_home(args), args.file, args.id, kinds, args.fold)
    tasks = ", ".join(f"{t.name} ({t.kind}, {t.classes} classes)" for t in request.tasks)
    return _request(args, request, f"Labels of {tasks} are in {args.home}.", "Next: sign the coordinator's invitation.")


def _dry_run(args: argparse.Namespace) -> int:
    from fedprofile.messages import MEANING
    from fedprofile.simulation.dry_run import dry_run

    done = dry_run(_home(args))
    sent = [{"type": s.type, "bytes": s.bytes, "meaning": MEANING[s.type]} for s in done.sent]
    lines = [f"{'would leave':<16}{'bytes':>10}   what it tells"]
    lines += [f"{s.type:<16}{s.bytes:>10,}   {MEANING[s.type]}" for s in done.sent]
    lines.append(f"{'in all':<16}{done.bytes:>10,}   of {done.customers:,} customers; nothing was sent")
    lines.append(f"Invented here: {', '.join(done.parties[1:])}. A real run has as many rounds as its plan.")
    facts = {"sent": sent, "bytes": done.bytes, "customers": done.customers, "invented": list(done.parties[1:])}
    return print_result(args, facts, "\n".join(lines))


def _sign(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import changes, read_invitation, sign
    from fedprofile.errors import UsageError
    from fedprofile.node.budgets import limits

    home, invitation = _home(args), read_invitation(args.invitation)
    roster, change = invitation.roster, changes(home, invitation)
    told = f"{_plain(invitation.federation)}: roster version {roster.version}"  # every text is the coordinator's
    lines = [f"{told}, coordinator {_plain(invitation.coordinator)}"]
    for party in roster.parties:
        marks = [name for name, parties in change.items() if party.id in parties]
        owner = "label owner" if party.id == roster.label_owner else ""
        who = f"{_plain(party.id):<20}{_plain(party.role):<14}{_plain(party.org):<30}"
        lines.append(f"  {who}{' '.join([owner, *marks]).strip()}")
    lines += [f"  {_plain(party):<20}removed" for party in change["removed"]]
    lines.append(f"  key of the coordinator's audit log: {invitation.audit_key or 'none'}")
    proposed, now = invitation.policy.to_json(), limits(home).to_json()
    lines.append(f"  {'limits':<22}{'proposed':<18}in force now")
    lines += [f"  {key:<22}{_plain(value):<18}{_plain(now[key])}" for key, value in proposed.items()]
    lines.append(f"Compare with the coordinator, aloud: {invitation.fingerprint}")
    if not args.yes:
        print("\n".join(lines))
        if input("Sign it? Type yes: ").strip() != "yes":
            raise UsageError("nothing was signed", "Type yes, or use --yes after comparing.")
        lines = []
    out = args.out or Path(f"{home.config.party}.signature.json")
    sign(home, invitation, out)
    facts = {"fingerprint": invitation.fingerprint, "roster": roster.version, "changes": change, "limits": proposed}
    facts["signature"] = str(out)
    return print_result(args, facts, "\n".join([*lines, f"Signed. Send the coordinator {out}."]))


def _start(args: argparse.Namespace) -> int:
    import logging

    from fedprofile.deployment.node import run_node

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run_node(_home(args), args.health_port)
    return 0


def _pause(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import pause

    pause(_home(args), True)
    return print_result(args, {"paused": True}, "Paused: nothing leaves this node.")


def _resume(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import pause

    pause(_home(args), False)
    return print_result(args, {"paused": False}, "Resumed.")


def _status(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import status

    facts = status(_home(args))
    shown: dict[str, Any] = {k: v for k, v in facts.items() if k != "process"}
    shown["process"] = "not running"
    if process := facts["process"]:
        shown["process"] = "online" if process["connected"] else f"offline: {process['trouble']}"
        shown |= {k: process[k] for k in _RUNNING if k in process}
    return print_result(args, facts, "\n".join(f"{k:<15}{_plain(v)}" for k, v in shown.items()))


_RUNNING = ("round", "rounds", "uploads_left", "openings_left", "label_eps", "reply_bytes", "refusals")


def _audit(args: argparse.Namespace) -> int:
    from fedprofile.governance.audit_verify import verify_log
    from fedprofile.node.audit import NodeAudit, log_of
    from fedprofile.node.journal import Journal
    from fedprofile.report.data_use import summarise

    home = _home(args)
    with home.lock():
        NodeAudit(home, Journal(home.keys / "journal.jsonl")).begin()
    records: list[dict[str, Any]] = []
    verified = verify_log(home.keys, log_of(home).identity.sign_pk, each=records.append)
    use = summarise(records)
    facts = {**verified.to_json(), **use.totals(), "left": [list(row) for row in use.left_rows()]}
    rows = [
        f"  {run:<14}{type_:<15}{messages:>6} messages {size:>14,} bytes"
        for run, type_, messages, size in use.left_rows()
    ]
    return print_result(args, facts, "\n".join([verified.to_text(), "left, by run and type of message:", *rows]))


def _encoders(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import identity_of
    from fedprofile.node.encoders import finished_runs, kept_as_signed

    home = _home(args)
    identity, runs, lines = identity_of(home), [], []
    for run in finished_runs(home):
        said = f"acknowledged by {', '.join(run['acknowledged'])}" if "acknowledged" in run else ""
        if not said:
            run["as_signed"] = kept_as_signed(home, identity, run)
            said = f"{run['digest']}  {'as signed' if run['as_signed'] else 'NOT what was signed'}"
        runs.append(run)
        lines.append(f"{run['plan'][:12]}  {run['on'] or 'simulated'}  {said}")
    print_result(args, {"runs": runs}, "\n".join(lines) or "No run has finished yet.")
    return int(not all(run.get("as_signed", True) for run in runs))


def _plans(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import read_request
    from fedprofile.node.approvals import describe, why_asked
    from fedprofile.node.audit import begun_under
    from fedprofile.node.budgets import limits
    from fedprofile.node.plans import asked_plans

    home, today = _home(args), datetime.now(UTC).date()
    policy, columns, begun = limits(home), read_request(home).schema.columns, begun_under(home)
    plans = []
    for asked in asked_plans(home):
        facts = describe(asked, policy, columns, begun)
        if asked.decision == "pending":
            facts["not_covered"] = why_asked(home, asked, today, begun)
        plans.append(facts)
    pages = ["\n".join(f"{key:<18}{_plain(value)}" for key, value in plan.items()) for plan in plans]
    return print_result(args, {"plans": plans}, "\n\n".join(pages) or "No plan has asked yet.")


def _plain(value: Any) -> str:
    from fedprofile.report.words import clean  # texts of a plan or an invitation are the coordinator's

    if isinstance(value, dict):
        return "; ".join(f"{k}: {_plain(v)}" for k, v in value.items()) or "-"
    return ", ".join(map(_plain, value)) if isinstance(value, list) else clean(str(value))


def _approve(args: argparse.Namespace) -> int:
    return _decide(args, True)


def _refuse(args: argparse.Namespace) -> int:
    return _decide(args, False)


def _decide(args: argparse.Namespace, approved: bool) -> int:
    from fedprofile.node.approvals import decide

    until = datetime.now(UTC).date() + timedelta(days=getattr(args, "days", 0))
    asked = decide(_home(args), args.plan, approved, until, getattr(args, "runs", 1))
    said = f"Approved {asked.id} until {asked.until}" if approved else f"Refused {asked.id}"
    if asked.runs > 1:
        said += f", and later plans that ask for no more: {asked.runs} runs in all"
    facts = {"plan": asked.plan.hash.hex(), "decision": asked.decision, "until": asked.until, "runs": asked.runs}
    return print_result(args, facts, f"{said}.")


def _policy(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import change_policy
    from fedprofile.node.policy import read_common, read_policy
    from fedprofile.secagg.policy import stricter

    home = _home(args)
    own = change_policy(home, args.changes) if args.changes else read_policy(home)
    common = read_common(home)
    both = stricter(own, common)
    facts = {"own": own.to_json(), "federation": common.to_json(), "in_force": both.to_json()}
    lines = [f"{'':<22}{'own':<18}{'federation':<18}in force"]
    for key, value in facts["own"].items():
        lines.append(
            f"{key:<22}{_plain(value):<18}{_plain(facts['federation'][key]):<18}{_plain(facts['in_force'][key])}"
        )
    return print_result(args, facts, "\n".join(lines))


def _conclude(args: argparse.Namespace) -> int:
    from fedprofile.deployment.label_owner import conclude, drop
    from fedprofile.report.words import quality

    if args.drop:
        plan = drop(_home(args))
        return print_result(args, {"dropped": plan}, f"Dropped the training of plan {plan[:12]}: it gives no model.")
    done = conclude(_home(args), args.out, args.tracking)
    lines = [f"{'task':<14}{'bank alone':>12}{'federated':>12}   AUC on test customers"]
    for name, task in done.tasks.items():
        auc = [task["models"][m]["auc"] for m in ("bank_alone", "federated")]
        lines.append(f"{name:<14}" + "".join(f"{'-' if a is None else f'{a:.4f}':>12}" for a in auc))
    lines.append(f"Data quality of the bank's own table: {quality(done.quality)}")
    lines.append(f"Bundle: {done.bundle}" + (f", version {done.version}" if done.version else ""))
    facts = {"bundle": str(done.bundle), "tasks": done.tasks, "version": done.version, "quality": done.quality}
    return print_result(args, facts, "\n".join(lines))


def _rotate(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import rotate

    request = rotate(_home(args))
    return _request(args, request, "Made a new key for dialling.", "Once it is enrolled, start the node again.")


def _leave(args: argparse.Namespace) -> int:
    from fedprofile.deployment.node import leave

    leave(_home(args))
    return print_result(args, {"left": True}, "Left. Keys, journal and consents stay; keep them as the law asks.")


def _bundle(args: argparse.Namespace) -> int:
    from fedprofile.deployment.wheelhouse import make_wheelhouse

    made = make_wheelhouse(args.out, args.wheel)
    facts = {"dir": str(made.folder), "wheels": made.components, "bytes": made.bytes, "requirements": made.digest}
    said = f"{made.components} wheels, {made.bytes / 1e6:,.0f} MB, in {made.folder}; how to install: INSTALL.txt."
    return print_result(args, facts, f"{said}\nSHA-256 of requirements.txt, to read aloud: {made.digest}")
