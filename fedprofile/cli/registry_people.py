"""`fedprofile registry init`, `person …` and `people …`: the root key, and who may do what."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedprofile.cli.keys import new_key, public_key, read_key
from fedprofile.cli.registry_version import MAKER, NOUN, add_place, opened, place
from fedprofile.cli.verbs import add_verb, print_result

_DAY = 86400
_ROLES = ("trainer", "validator", "approver", "operator", "auditor")


def add_verbs(verbs: Any) -> None:
    init = add_verb(
        verbs, "init", _init, "make a registry and its root key",
        f"{NOUN} init --root root.key --tracking sqlite:////srv/mlflow.db", home=False,
    )  # fmt: skip
    add_place(init)
    init.add_argument("--root", type=Path, required=True, metavar="FILE", help="a new key file; keep it offline")
    init.add_argument(
        "--store", default="file", metavar="URL", help="where the log lies: file (default), or a database URL"
    )
    init.add_argument("--model", default="fedprofile", metavar="NAME", help="in MLflow (default: %(default)s)")
    init.add_argument("--tracking", metavar="URI", help="MLflow's store; none: no MLflow; default: as `train`")
    join = add_verb(
        verbs, "join", _join, "follow a registry that a shared database holds, from this machine",
        f"{NOUN} join --root-key 5f3a... --store postgresql://registry@db/fedprofile", home=False,
    )  # fmt: skip
    add_place(join)
    join.add_argument("--root-key", required=True, metavar="HEX", help="the root's public key, compared aloud")
    join.add_argument("--store", required=True, metavar="URL")
    join.add_argument("--model", default="fedprofile", metavar="NAME", help="in MLflow (default: %(default)s)")
    join.add_argument("--tracking", metavar="URI", help="MLflow's store; none: no MLflow; default: as `train`")

    kinds = verbs.add_parser("person", help="a person's own key").add_subparsers(
        dest="what", required=True, metavar="WHAT"
    )
    new = add_verb(
        kinds, "new", _new, "make a key, on that person's own machine", f"{NOUN} person new --id wang --out wang.key",
        home=False,
    )  # fmt: skip
    new.add_argument("--id", required=True, metavar="ID", help="small letters, digits, dots, - and _")
    new.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file, readable by this user only")

    kinds = verbs.add_parser("people", help="who may do what, signed by the root key").add_subparsers(
        dest="what", required=True, metavar="WHAT"
    )
    add = add_verb(
        kinds, "add", _add, "register a person", f"{NOUN} people add wang 5f3a... --role validator --root root.key",
        home=False,
    )  # fmt: skip
    add.add_argument("id", metavar="ID")
    add.add_argument("public", metavar="HEX", help="the person's public key")
    add.add_argument("--role", action="append", required=True, choices=_ROLES, help="repeat it for more than one")
    add.add_argument("--days", type=int, default=365, help="valid for so many days (default: %(default)s)")
    revoke = add_verb(
        kinds, "revoke", _revoke, "nothing of this person counts any more",
        f"{NOUN} people revoke wang --root root.key", home=False,
    )  # fmt: skip
    revoke.add_argument("id", metavar="ID")
    for verb in (add, revoke):
        verb.add_argument("--root", type=Path, required=True, metavar="FILE", help="the root key")
        add_place(verb)
    add_place(add_verb(kinds, "list", _list, "people and their roles", f"{NOUN} people list", home=False))


def _init(args: argparse.Namespace) -> int:
    from fedprofile.errors import FedprofileError
    from fedprofile.registry.home import create

    tracking = _tracking(args)
    root = new_key(args.root)
    try:
        registry = create(place(args), root, args.store, args.model, tracking)
    except FedprofileError:
        args.root.unlink()  # it signed nothing that anybody will read
        raise
    facts = {"registry": str(registry.path), "root": root.sign_pk.hex()}
    said = f"Made {registry.path}.\nroot public key: {root.sign_pk.hex()}\nTake {args.root} off this machine; it is "
    return print_result(args, facts, said + f"needed only to change people. Next: {NOUN} person new, people add.")


def _join(args: argparse.Namespace) -> int:
    from fedprofile.registry.home import join

    registry = join(
        place(args),
        public_key(args.root_key, f"It is what `{NOUN} init` printed."),
        args.store,
        args.model,
        _tracking(args),
    )
    return print_result(args, {"registry": str(registry.path)}, f"Made {registry.path}; the log there is in order.")


def _tracking(args: argparse.Namespace) -> str | None:
    from fedprofile.config.folder import home
    from fedprofile.mlflow_io.store import check_uri, default_uri

    if args.tracking == "none":
        return None
    return check_uri(args.tracking) if args.tracking else default_uri(home())


def _new(args: argparse.Namespace) -> int:
    from fedprofile.errors import UsageError
    from fedprofile.governance.people import ID_RULE, is_id

    if not is_id(args.id):
        raise UsageError(f"nobody can be called {args.id!r}", f"Use {ID_RULE}.")
    public = new_key(args.out).sign_pk.hex()
    said = f"public key of {args.id}, to be registered by the holder of the root key:\n{public}"
    return print_result(args, {"id": args.id, "key": public}, said)


def _add(args: argparse.Namespace) -> int:
    from fedprofile.errors import UsageError
    from fedprofile.governance.people import ROOT, person

    if args.days < 1:
        raise UsageError("--days is below 1", "A person is valid for a day or more.")
    registry, root = opened(args), read_key(args.root, f"{NOUN} init")
    new = person(
        args.id,
        public_key(args.public, f"It is what `{MAKER}` printed."),
        tuple(args.role),
        registry.clock() + args.days * _DAY,
    )
    registry.write("people", ROOT, root, lambda state: {"people": state.staff.added(new, root).to_json()})
    said = f"{new.id} is {' and '.join(new.roles)} for {args.days} days."
    return print_result(args, {"id": new.id, "roles": list(new.roles)}, said)


def _revoke(args: argparse.Namespace) -> int:
    from fedprofile.governance.people import ROOT

    registry, root = opened(args), read_key(args.root, f"{NOUN} init")
    now = registry.clock()
    registry.write("people", ROOT, root, lambda state: {"people": state.staff.revoked(args.id, now, root).to_json()})
    return print_result(args, {"id": args.id}, f"Nothing that {args.id} signs, or has signed for later, counts.")


def _list(args: argparse.Namespace) -> int:
    from fedprofile.registry.views import day

    registry = opened(args)
    now, people = registry.clock(), registry.state().staff
    facts = [{**p.to_json(), "live": p.is_live(now)} for p in people.persons]
    lines = [
        f"{p.id:<14}{' '.join(p.roles):<30}{'until ' + day(p.valid_until) if p.is_live(now) else 'no longer valid'}"
        for p in people.persons
    ]
    return print_result(args, {"version": people.version, "people": facts}, "\n".join(lines) or "Nobody yet.")
