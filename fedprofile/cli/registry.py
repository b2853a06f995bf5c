"""`fedprofile registry …`: gates, two people, one champion, and back. What decides is a line of a signed log."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.cli import registry_people, registry_retrain, registry_watch
from fedprofile.cli.registry_gate import run_gates
from fedprofile.cli.registry_version import (
    NOUN,
    actor,
    add_actor,
    add_place,
    done,
    fetcher,
    opened,
)  # fmt: skip
from fedprofile.cli.verbs import add_verb, print_result

if TYPE_CHECKING:
    from fedprofile.governance.approvals import Choice
    from fedprofile.governance.promotion import State
    from fedprofile.registry.home import Registry

_VERSION = "version number in MLflow, a bundle's folder, or the beginning of its hash"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the noun `registry` and its verbs."""
    noun = subparsers.add_parser("registry", help="gates, approvals, promotion, rollback: which model is champion")
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")
    registry_people.add_verbs(verbs)
    registry_watch.add_verbs(verbs)
    registry_retrain.add_verbs(verbs)

    def verb(name: str, run: Any, help: str, example: str, *, acts: bool, version: str = "") -> argparse.ArgumentParser:
        parser = add_verb(verbs, name, run, help, f"{NOUN} {name} {example}".rstrip(), home=False)
        if version:
            parser.add_argument("version", metavar="VERSION", nargs="?" if version == "?" else None, help=_VERSION)
        if acts:
            add_actor(parser)
        add_place(parser)
        return parser

    me = "--as wang --key wang.key"
    gate = verb("gate", _gate, "judge a version beside the champion", f"3 --home mine/nodes/bank {me}", acts=True,
                version="1")  # fmt: skip
    gate.add_argument(
        "--home", type=Path, required=True, metavar="HOME", help="the label owner's home of the version's own run"
    )
    gate.add_argument("--promotion", default="default", metavar="NAME", help="bars: a name, or your own YAML file")
    gate.add_argument("--out", type=Path, metavar="DIR", help="also leave the report here")

    approve = verb("approve", _approve, "sign bundle and gate report", f"3 {me}", acts=True, version="1")
    approve.add_argument("--role", choices=["validator", "approver"], help="where you hold both")
    approve.add_argument("--reject", action="store_true", help="say no: while it holds, nothing is promoted")
    approve.add_argument("--expires", type=int, default=14, metavar="DAYS", help="default: %(default)s")

    verb("promote", _promote, "make a version champion", "3 --as chen --key chen.key", acts=True, version="1")
    back = verb(
        "rollback", _rollback, "go back to an earlier champion, at once",
        "--reason 'scores drift' --as chen --key chen.key", acts=True, version="?",
    )  # fmt: skip
    retire = verb(
        "retire", _retire, "never serve a version again", "2 --reason bias --as chen --key chen.key",
        acts=True, version="1",
    )  # fmt: skip
    for parser in (back, retire):
        parser.add_argument("--reason", required=True, help="why, for the log")
    verb("shadow", _shadow, "let a version score silently; no VERSION ends it", "3 --as chen --key chen.key",
         acts=True, version="?")  # fmt: skip
    verb("sync", _sync, "let MLflow follow the head again", "--as chen --key chen.key", acts=True)

    verb("status", _status, "the champion, and what stands between each version and it", "", acts=False)
    verb("history", _history, "every line of the log, checked", "", acts=False)
    diff = verb("diff", _diff, "what differs between two bundles", "2 3", acts=False, version="1")
    diff.add_argument("other", metavar="OTHER", help="the same for the second")
    card = verb("card", _card, "the model card, from what bundle, gates and log hold", "3 --out card.html", acts=False,
                version="1")  # fmt: skip
    card.add_argument("--out", type=Path, metavar="FILE", help=".html or .md; default: Markdown, printed")


def _found(registry: Registry, state: State, name: str) -> tuple[str, str]:
    from fedprofile.registry.version import find

    return find(registry, state, name, fetcher(registry))


def _gate(args: argparse.Namespace) -> int:
    from fedprofile.registry.gating import read_gate_settings

    registry, who, settings = opened(args), actor(args), read_gate_settings(args.promotion)
    manifest, number = _found(registry, registry.state(), args.version)
    return run_gates(args, registry, who, settings, manifest, number, args.home)


def _approve(args: argparse.Namespace) -> int:
    from fedprofile.registry.promote import approve

    registry, who = opened(args), actor(args)
    manifest, _ = _found(registry, registry.state(), args.version)
    decision: Choice = "reject" if args.reject else "approve"
    state = approve(registry, who, manifest, args.role, decision, args.expires)
    given = state.release(manifest).approvals[-1]
    said = f"{who.id} {decision}s {state.release(manifest).name} as {given.role}, for {args.expires} days.\n"
    said += f"bundle {manifest}\ngate report {given.report}"
    if failed := [f.gate for f in state.release(manifest).verdict.failed]:
        said += f"\nwarning: its gates did not pass: {', '.join(failed)}"
    return done(args, registry, state, said, approval=given.to_json())


def _promote(args: argparse.Namespace) -> int:
    from fedprofile.registry.promote import promote

    registry, who = opened(args), actor(args)
    manifest, _ = _found(registry, registry.state(), args.version)
    state = promote(registry, who, manifest)
    return done(args, registry, state, f"{state.release(manifest).name} is champion.", champion=manifest)


def _rollback(args: argparse.Namespace) -> int:
    from fedprofile.registry.promote import previous, roll_back
    from fedprofile.registry.serving import served
    from fedprofile.registry.version import have, logged

    registry, who = opened(args), actor(args)
    before = registry.state()
    # What the log and the shelf know is enough: nothing of a rollback waits for MLflow.
    manifest = logged(before, args.version) if args.version else previous(before)
    have(registry, before, manifest, fetcher(registry))
    state = roll_back(registry, who, manifest, args.reason)
    how = served(registry.shelf.meta(manifest))
    said = f"{state.release(manifest).name} is champion again, {how}."
    return done(args, registry, state, said, champion=manifest, served=how)


def _retire(args: argparse.Namespace) -> int:
    from fedprofile.registry.promote import retire
    from fedprofile.registry.version import logged

    registry, who = opened(args), actor(args)
    manifest = logged(registry.state(), args.version)
    state = retire(registry, who, manifest, args.reason)
    return done(args, registry, state, f"{state.release(manifest).name} is retired.", retired=manifest)


def _shadow(args: argparse.Namespace) -> int:
    from fedprofile.registry.promote import shadow

    registry, who = opened(args), actor(args)
    manifest = _found(registry, registry.state(), args.version)[0] if args.version else None
    state = shadow(registry, who, manifest)
    said = f"{state.release(manifest).name} is shadow." if manifest else "No version is shadow."
    return done(args, registry, state, said, shadow=manifest)


def _sync(args: argparse.Namespace) -> int:
    from fedprofile.errors import UsageError
    from fedprofile.mlflow_io.aliases import sync
    from fedprofile.mlflow_io.standing import Standing

    registry, who = opened(args), actor(args)
    state = registry.state()
    registry.check(state, who.id, who.key, "promote")
    if registry.tracking is None:
        raise UsageError("this registry has no MLflow", "Nothing has to follow.")
    late = sync(registry.tracking, registry.model, Standing.of(state, registry.shelf.report))
    said = "\n".join(["MLflow follows the head now. It was behind:", *(f"  {what}" for what in late)])
    return print_result(args, {"was_behind": late}, said if late else "MLflow follows the head.")


def _status(args: argparse.Namespace) -> int:
    from fedprofile.registry.views import champion_served, day, status
    from fedprofile.registry.watching import objection, standing_advice

    registry = opened(args)
    state = registry.state()
    advice = standing_advice(registry, state)
    how = champion_served(registry, state)
    facts = {**status(registry, state, registry.clock()), "mlflow": _behind(registry, state), "retrain": None}
    champion = f"{state.release(state.champion).name}, {how}" if state.champion else "none"
    lines = [f"{registry.model}: champion {champion}; {facts['lines']} lines, head {facts['head'][:16]}"]
    facts["served"] = how
    if advice:
        why = objection(registry, state, advice)
        facts["retrain"] = {**advice.to_json(), "objection": why}
        whose = (
            f"by {advice.person}" if not why else f"but it does not count: {why}" if advice.signature else "unsigned"
        )
        lines.append(f"  a retraining is recommended, {day(advice.made)}, {len(advice.reasons)} shifts, {whose}")
    for version in facts["versions"]:
        gates = "gates passed" if version["gates"] else "gates failed"
        lines.append(f"  {version['name']:<16}{version['stage']:<18}{gates}")
        if version["stage"] in ("challenger", "shadow", "gated"):
            lines += [f"    {why}" for why in version["objections"]]
    follows = "MLflow follows the head." if registry.tracking else "This registry has no MLflow."
    lines += [f"MLflow: {what}" for what in facts["mlflow"]] or [follows]
    if facts["mlflow"]:
        lines.append(f"Mend it: {NOUN} sync")
    if not facts["people_file"]:
        lines.append(
            "warning: people.json is not what the log says. The log counts; any `people` verb writes it again."
        )
    return print_result(args, facts, "\n".join(lines))


def _behind(registry: Registry, state: State) -> list[str]:
    from fedprofile.errors import FedprofileError

    if registry.tracking is None:
        return []
    from fedprofile.mlflow_io.aliases import behind
    from fedprofile.mlflow_io.standing import Standing

    try:
        return behind(registry.tracking, registry.model, Standing.of(state, registry.shelf.report))
    except FedprofileError as error:
        return [str(error)]


def _history(args: argparse.Namespace) -> int:
    from fedprofile.registry.views import champion_served, history, sentence

    registry = opened(args)
    state, lines = history(registry)
    how = champion_served(registry, state)
    facts = {"lines": lines, "head": state.head.hash.hex(), "served": how}
    told = [sentence(line, state) for line in lines]
    if state.champion:
        told.append(f"champion {state.release(state.champion).name}: {how}")
    return print_result(args, facts, "\n".join(told))


def _diff(args: argparse.Namespace) -> int:
    import json

    from fedprofile.registry.views import difference

    registry = opened(args)
    state = registry.state()
    mine, other = (_found(registry, state, name)[0] for name in (args.version, args.other))
    found = difference(registry.shelf.meta(mine), registry.shelf.meta(other))
    rows = [f"{key}: {json.dumps(a, ensure_ascii=False)} -> {json.dumps(b, ensure_ascii=False)}" for key, a, b in found]
    rows = rows or ["the same facts" if mine != other else "the same bundle"]
    facts = {"a": mine, "b": other, "changed": [{"key": k, "a": a, "b": b} for k, a, b in found]}
    return print_result(args, facts, "\n".join([f"{mine[:12]} -> {other[:12]}", *rows]))


def _card(args: argparse.Namespace) -> int:
    from fedprofile.errors import UsageError
    from fedprofile.registry.card import card
    from fedprofile.report.model_card import to_html, to_markdown

    if args.out and args.out.suffix not in (".md", ".html"):
        raise UsageError("--out names neither .md nor .html", "Choose one.")
    registry = opened(args)
    state = registry.state()
    manifest, _ = _found(registry, state, args.version)
    made = card(registry, state, manifest)
    if args.out is None:
        return print_result(args, made.to_json(), to_markdown(made))
    args.out.write_text(to_html(made) if args.out.suffix == ".html" else to_markdown(made), encoding="utf-8")
    return print_result(args, {"card": str(args.out)}, f"Wrote {args.out}.")
