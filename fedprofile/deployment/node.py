"""What a partner's engineer does with a node: make it, join with it, run it, pause it, change its keys, leave.

Beside what ``fedprofile.node.home`` keeps, a deployed node's home holds::

    contract.yaml source.yaml map.yaml   where the table lies and how it is read (partners/data.md)
    flower.key flower.key.pub            who dials, for Flower; the Ed25519 identity comes from secret.key
    request.json                         what the coordinator enrols
    invitation.json ca.crt               what this node signed, and whom it dials
    paused                               while it exists, nothing leaves
    flower/                              the message in work, Flower's id of this node, where its health is
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fedprofile.data.contract import Contract
from fedprofile.data.contract_file import FILE as CONTRACT
from fedprofile.data.contract_file import parse_contract, shipped_text
from fedprofile.data.reading import decode, read_bytes
from fedprofile.data.yaml_file import parse_yaml
from fedprofile.enrolment import NAME, NAMES, Invitation, Request, RosterSignature, read_document, write_document
from fedprofile.errors import UsageError
from fedprofile.governance.audit import KeyRotated, Left, Refused
from fedprofile.node.audit import NodeAudit, log_of, record
from fedprofile.node.encoders import FOLDER as ENCODERS
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.journal import Journal
from fedprofile.node.membership import (
    CA,
    followed_roster,
    is_newcomer,
    pinned_roster,
    sign_invitation,
    signed_invitation,
)
from fedprofile.node.plans import SHORT
from fedprofile.node.policy import read_policy, write_policy
from fedprofile.node.secret import FILE as SECRET
from fedprofile.node.secret import encrypted, find_passphrase
from fedprofile.secagg.identity import Identity
from fedprofile.types import Policy, Ring, RunPlan, Schema

if TYPE_CHECKING:
    from fedprofile.flower.resident import Resident

REQUEST, FLOWER_KEY, PAUSED, LEFT = "request.json", "flower.key", "paused", "left"
_LAX = Policy(min_hidden=1, min_customers=0, max_uploads=1 << 20, max_uploads_day=1 << 20, clip=1e6, recompute=False)

_ELEMENTS: dict[str, Callable[[Any], bool]] = {
    "tasks": lambda task: isinstance(task, str),
    "rings": lambda ring: type(ring) is int and ring in get_args(Ring),
}


def make_node(
    path: Path,
    party: str,
    role: str,
    org: str,
    contract: Path | None,
    consent: str,
    passphrase: bytes | None = None,
    **choices: str,
) -> Request:
    """A new home with its keys, and the request to be enrolled.

    ``contract`` is copied into the home, by default the one shipped for the role. The node's own policy begins as lax
    as can be, so that the federation's decides until the node's people tighten theirs. With a ``passphrase`` both
    private keys are encrypted under it. ``choices``: ``profile``,
    ``align``, ``kem`` of NodeConfig, which no coordinator can change. Raises UsageError for a folder
    in use or a name that is none, DataError for a contract that is missing or wrong; nothing is written then.
    """
    from fedprofile.flower.node_key import make_node_key

    if not NAME.fullmatch(party) or not NAME.fullmatch(role):
        raise UsageError(f"{party!r} or {role!r} is no name of a party or role", NAMES)
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty", "Name a new folder.")
    file = contract.name if contract else CONTRACT
    text = shipped_text(role) if contract is None else decode(read_bytes(contract, file), file)
    schema, levels = _columns(parse_contract(parse_yaml(text, file), file))
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    (path / CONTRACT).write_text(text)
    config = NodeConfig(party, role, "", "own", consent, schema.categorical, approve="ask", **choices)
    home = NodeHome.create(path, config, passphrase=passphrase)
    write_policy(home, _LAX)
    make_node_key(path / FLOWER_KEY, passphrase)
    request = Request(
        party, org, role, identity_of(home).sign_pk, (path / f"{FLOWER_KEY}.pub").read_text().strip(), schema,
        levels, version("fedprofile"),
    )  # fmt: skip
    return write_request(home, request)


def change_policy(home: NodeHome, changes: Sequence[str]) -> Policy:
    """Change fields of the node's own policy (KEY=VALUE, the value as JSON; lists for tasks and rings), and sign it.

    Raises UsageError for an unknown field or a value of another type.
    """
    own = read_policy(home).to_json()
    for change in changes:
        key, _, text = change.partition("=")
        if key not in own:
            raise UsageError(f"the policy has no field {key!r}", f"Fields: {', '.join(own)}.")
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        kind = type(own[key])
        fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) is (kind is bool)
        if kind is float:
            fits = fits and abs(value) <= sys.float_info.max  # no NaN, no infinity
        if key in _ELEMENTS:
            fits = fits and all(_ELEMENTS[key](element) for element in value)
        if not fits:
            raise UsageError(f"{key} takes another value than {text!r}", f"It is a {kind.__name__}, written as JSON.")
        own[key] = float(value) if kind is float else value
    policy = Policy.from_json(own)
    write_policy(home, policy)
    return policy


def _columns(contract: Contract) -> tuple[Schema, dict[str, int]]:
    """The columns that the contract lets into a run, in the order of the snapshot, and levels of categorical ones."""
    from fedprofile.models.columns import BUCKETS

    names = [c.name for c in contract.features]
    numeric = tuple(c for c in names if c not in contract.categorical)
    levels = {c.name: len(c.codes) or BUCKETS for c in contract.features if c.name in contract.categorical}
    return Schema(numeric, tuple(levels)), levels


def identity_of(home: NodeHome) -> Identity:
    return Identity.from_seed(home.derive("identity"))


def write_request(home: NodeHome, request: Request) -> Request:
    """Sign and keep it, under the release that is installed now."""
    signed = replace(request, release=version("fedprofile")).signed(identity_of(home))
    write_document(home.path / REQUEST, signed)
    return signed


def read_request(home: NodeHome) -> Request:
    document = read_document(home.path / REQUEST)
    if not isinstance(document, Request):
        raise UsageError(f"{home.path / REQUEST} is no request", "Make the node again.")
    return document


def read_invitation(path: Path) -> Invitation:
    """Raises UsageError for another document."""
    document = read_document(path)
    if not isinstance(document, Invitation):
        raise UsageError(f"{path} is no invitation", "Ask the coordinator for its invitation.json.")
    return document


def changes(home: NodeHome, invitation: Invitation) -> dict[str, list[str]]:
    """Parties that an invitation adds, changes, removes against the roster that it follows; to a newcomer all are new.

    Raises UsageError for an invitation that brings a roster as in force which this node cannot follow.
    """
    followed = followed_roster(home, invitation)
    before = {p.id: p for p in followed.parties} if followed and not is_newcomer(home, followed) else {}
    after = {p.id: p for p in invitation.roster.parties}
    return {
        "added": sorted(after.keys() - before.keys()),
        "changed": sorted(p for p in after.keys() & before.keys() if after[p] != before[p]),
        "removed": sorted(before.keys() - after.keys()),
    }


def sign(home: NodeHome, invitation: Invitation, out: Path) -> RosterSignature:
    """Sign the proposed roster; the file ``out`` goes back to the coordinator."""
    if invitation.fab != _own_fab():
        raise UsageError("the coordinator runs another release of fedprofile", "Install the same on both sides.")
    signature = sign_invitation(home, invitation, identity_of(home))
    write_document(out, signature)
    return signature


def _own_fab() -> str:
    from fedprofile.flower.app_bundle import fab_hash

    return fab_hash()


def run_node(home: NodeHome, health_port: int = 0) -> None:
    """In the main thread, until SIGTERM or SIGINT, with its health on loopback (port 0: the system chooses one)."""
    import signal

    from fedprofile.deployment.health import Health, HealthServer
    from fedprofile.deployment.meter import Meter
    from fedprofile.flower.client_app import app

    meter = Meter(app)
    node = resident(home, meter)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stop())
    node.run(HealthServer(Health(home, node.status, meter), health_port))


def resident(home: NodeHome, app: Any = None) -> Resident:
    """The node's process to be; ``app`` stands in for the installed ClientApp.

    Raises UsageError before this node has signed an invitation, after it has left, or for a changed policy; DataError
    for an audit log or journal that was changed or put back.
    """
    from fedprofile.flower.resident import Resident, ResidentSettings

    if (home.path / LEFT).exists():
        raise UsageError(f"{home.path} has left its federation", "Make a new node.")
    invitation = signed_invitation(home)
    settings = ResidentSettings(
        home=home.path,
        coordinator=invitation.coordinator,
        root_certificates=home.path / CA,
        key=home.path / FLOWER_KEY,
        state=home.path / "flower",
        allowed_fabs=(_own_fab(),),
    )
    read_policy(home)
    NodeAudit(home, Journal(home.keys / "journal.jsonl")).begin()
    return Resident(
        settings,
        app,
        may_send=lambda: not any((home.path / file).exists() for file in (PAUSED, LEFT)),
        passphrase=find_passphrase() if encrypted(settings.key) else None,
        on_refusal=lambda code: record(home, Refused(code, "flower")),
    )


def pause(home: NodeHome, paused: bool) -> None:
    """At once: a reply that is being made waits in the node until it is resumed."""
    if paused:
        (home.path / PAUSED).touch()
    else:
        (home.path / PAUSED).unlink(missing_ok=True)


def rotate(home: NodeHome) -> Request:
    """A new Flower key under the same identity; the old one is kept until the coordinator knows the new one.

    Raises UsageError while one is kept from the last time, or without the passphrase: nothing has changed then.
    """
    from fedprofile.flower.node_key import make_node_key

    held = [home.path / FLOWER_KEY, home.path / f"{FLOWER_KEY}.pub"]
    old, new = ([file.with_name(f"{mark}-{file.name}") for file in held] for mark in ("old", "new"))
    if kept := [file for file in old if file.exists()]:
        mend = "Once the coordinator has enrolled the key in use now, delete both old-* files; then rotate again."
        raise UsageError(f"{kept[0]} is still there", mend)
    identity_of(home)  # asks for the passphrase before anything is written
    passphrase = find_passphrase() if encrypted(home.keys / SECRET) else None
    for file in new:  # a try that a crash cut
        file.unlink(missing_ok=True)
    line = make_node_key(new[0], passphrase)
    record(home, KeyRotated(hashlib.sha256(line).hexdigest()))
    request = write_request(home, replace(read_request(home), flower_key=line.decode().strip()))
    for now, before, after in zip(held, old, new, strict=True):
        before.hardlink_to(now)  # at no moment is there no key
        after.replace(now)
    return request


def leave(home: NodeHome) -> None:
    """Forget run state, session and encoders; the audit trail, keys and consents stay for as long as the law says.

    Raises UsageError while the last roster that it signed names it: it has to sign one that does not.
    """
    if home.config.party in {p.id for p in signed_invitation(home).roster.parties}:
        mend = "Have the coordinator propose a roster without it (`coordinator remove`), and sign that first."
        raise UsageError(f"the roster still names {home.config.party!r}", mend)
    (home.path / LEFT).touch()  # at once, also for a process that runs
    with home.lock():  # not while a message is in work
        home.clear_run()
        shutil.rmtree(home.path / ENCODERS, ignore_errors=True)
        log_of(home).write(Left())


def status(home: NodeHome) -> dict[str, Any]:
    """Where a node stands, nothing of its table's content; ``process`` is what the running one says, None for none."""
    from fedprofile.deployment.health import ask, count_plans
    from fedprofile.label_owner.party import unconcluded
    from fedprofile.node.snapshot import read_record

    pinned, waiting = pinned_roster(home), unconcluded(home)
    record = read_record(home.path)
    return {
        "party": home.config.party,
        "role": home.config.role,
        "release": version("fedprofile"),
        "roster": pinned.version if pinned else 0,
        "paused": (home.path / PAUSED).exists(),
        "left": (home.path / LEFT).exists(),
        "snapshot": record["rows"]["kept"] if record else None,
        "plans": count_plans(home),
        "to_conclude": RunPlan.from_json(waiting).hash.hex()[:SHORT] if waiting else None,
        "process": ask(home),
    }
