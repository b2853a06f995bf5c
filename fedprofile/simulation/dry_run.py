"""A whole training of one round of a deployed node against a twin of its federation, on the node's own machine.

The node's table, consents, policy and choices are the real ones; the coordinator is the real code in this process; all
other parties are invented here, over the same customer ids. Nothing is sent, and the node's home stays as it was: the
twin lives in a private folder inside it (so that no key leaves the home) and is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprofile.config.compose import compose
from fedprofile.config.planning import FederationFacts, NodeFacts, make_plan, make_policy
from fedprofile.config.schema import Config
from fedprofile.coordinator.job import Job
from fedprofile.enrolment import Request, read_document
from fedprofile.errors import UsageError
from fedprofile.label_owner.home import write_owner
from fedprofile.messages import Envelope
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.membership import SIGNED, pinned_roster
from fedprofile.node.policy import COMMON, ROSTER, read_common, write_json, write_policy
from fedprofile.node.source import table_ids, write_table
from fedprofile.secagg.setup_messages import KEMS, PROFILES
from fedprofile.simulation.homes import make_roster, write_job
from fedprofile.types import Labels, Policy, Schema, Table, Task

TABLE = "table.parquet"
_USUAL = ("bank", "ecommerce", "medical", "tax")
_INVENTED = Schema(("x1", "x2", "x3"), ())
_TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))
_NOT_COPIED = ("journal.jsonl", "audit.jsonl", "audit.head", "lock", ROSTER, COMMON, SIGNED)
_PREFIX = "dry-run-"


@dataclass(frozen=True)
class Sent:
    """One message that would have left: its type, its bytes as Flower carries it, how many parts it had."""

    type: str
    bytes: int
    parts: int


@dataclass(frozen=True)
class DryRun:
    """``sent`` in the order of sending; ``parties`` are those of the twin, this node's own first."""

    sent: tuple[Sent, ...]
    parties: tuple[str, ...]
    customers: int

    @property
    def bytes(self) -> int:
        return sum(s.bytes for s in self.sent)


def dry_run(home: NodeHome) -> DryRun:
    """Raises UsageError for a node without a frozen table or, at the label owner, without labels; whatever would end
    a real training ends this one as well (PolicyRefusal, NodeFailed …)."""
    from fedprofile.flower import client_app, server_app
    from fedprofile.flower.inprocess import run_in_process

    if not (home.path / TABLE).exists():
        raise UsageError(f"{home.path} has no frozen table", "Run `fedprofile node check HOME --freeze` first.")
    request = read_document(home.path / "request.json")
    if not isinstance(request, Request):
        raise UsageError(f"{home.path / 'request.json'} is no request", "Make the node again.")
    sent: list[Sent] = []
    with _twin(home, request) as (homes, job):
        taps = _Tap(request.party, sent)
        try:
            run_in_process(server_app.app, client_app.app, homes, job, taps)
        finally:
            client_app.forget(list(homes.values()))
        parties = (request.party, *(p for p in homes if p != request.party))
    return DryRun(tuple(sent), parties, len(table_ids(home.path / TABLE)))


class _Tap:
    def __init__(self, party: str, sent: list[Sent]) -> None:
        self._party, self._sent = party, sent

    def __call__(self, party: str, data: bytes) -> None:
        from fedprofile.flower.inprocess import read_message
        from fedprofile.flower.records import unpack

        if party == self._party:
            envelope = Envelope.decode(unpack(read_message(data)))
            self._sent.append(Sent(envelope.type, len(data), len(envelope.parts)))


@contextmanager
def _twin(home: NodeHome, request: Request) -> Iterator[tuple[dict[str, Path], Path]]:
    """(folders of all homes, folder of the job)."""
    for left in home.path.glob(f"{_PREFIX}*"):  # of one that was killed: it holds a copy of the keys and the table
        shutil.rmtree(left)
    root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home.path))
    try:
        own = _copy(home, root / "own")
        others, owner = _others(home, request)
        nodes = (NodeFacts(request.party, request.role, request.schema, request.levels), *others)
        nodes = tuple(sorted(nodes, key=lambda n: n.id != owner))  # the label owner first
        common = read_common(home) if (home.path / COMMON).exists() else None
        tasks = request.tasks or tuple(t for t in _TASKS if not (common and common.tasks) or t.name in common.tasks)
        facts = FederationFacts(owner, tasks or _TASKS, nodes, request.many_rows)
        config = compose(_overrides(own.config, common))
        policy = common or make_policy(config, facts)
        ids, homes = table_ids(home.path / TABLE), {request.party: own}
        for node in others:
            homes[node.id] = _invent(root / node.id, own.config, node, ids, policy)
        if not request.is_owner:
            _invent_labels(homes[owner].path, ids, facts.tasks)
        _join(root / "job", homes, facts, config, policy)
        yield {party: made.path for party, made in homes.items()}, root / "job"
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _copy(home: NodeHome, to: Path) -> NodeHome:
    """The node with keys, table, consents and policy, but without what it sent so far or ran before."""
    to.mkdir(mode=0o700)
    for folder in {home.path, home.keys}:
        for file in folder.iterdir():
            if file.is_file() and file.name not in _NOT_COPIED:
                shutil.copy2(file, to / file.name)
    own = NodeHome(to)
    own.configure(keys="", approve="auto")
    return own


def _others(home: NodeHome, request: Request) -> tuple[tuple[NodeFacts, ...], str]:
    """All other parties, and who the label owner is: of the roster where there is one, else of the four usual roles."""
    roster = pinned_roster(home)
    if roster:
        known = [(p.id, p.role) for p in roster.parties]
        owner = roster.label_owner
    else:
        known = [(role, role) for role in _USUAL if role != request.role]
        owner = request.party if request.is_owner else _USUAL[0]
        if owner not in dict(known) and not request.is_owner:
            raise UsageError("the label owner has no labels yet", "Give them: `fedprofile node labels HOME`.")
    mine = NodeFacts("", request.role, request.schema, request.levels)  # members of one role share an encoder
    invented = [replace(mine, id=p) if r == request.role else NodeFacts(p, r, _INVENTED) for p, r in known]
    return tuple(n for n in invented if n.id != request.party), owner


def _overrides(config: NodeConfig, common: Policy | None) -> list[str]:
    own = [f"align.mode={config.align}", f"secure.profile={config.profile}", f"secure.kem={config.kem}"]
    if common:
        own += [f"secure.min_hidden={common.min_hidden}", f"secure.colluders={common.colluders}"]
        own += [f"privacy.min_release={common.min_customers}"]
    return ["learning.rounds=1", "baselines=none", "tracking=none", *own]


def _invent(path: Path, like: NodeConfig, node: NodeFacts, ids: npt.NDArray[np.str_], policy: Policy) -> NodeHome:
    draw = np.random.default_rng(list(node.id.encode()))
    columns: dict[str, npt.NDArray[Any]] = {c: draw.normal(size=len(ids)) for c in node.schema.numeric}
    for name in node.schema.categorical:
        columns[name] = draw.integers(max(node.levels.get(name, 2), 1), size=len(ids)).astype(str).astype(object)
    config = NodeConfig(node.id, node.role, "", "own", "simulated", node.schema.categorical)
    home = NodeHome.create(path, replace(config, profile=like.profile, align=like.align, kem=like.kem))
    write_table(Table(ids, columns, frozenset(node.schema.categorical)), path / TABLE)
    write_policy(home, policy)
    return home


def _invent_labels(path: Path, ids: npt.NDArray[np.str_], tasks: tuple[Task, ...]) -> None:
    draw = np.random.default_rng(0)
    write_owner(path, Labels(ids, {t.name: draw.integers(t.classes, size=len(ids)) for t in tasks}), 0)


def _join(job: Path, homes: dict[str, NodeHome], facts: FederationFacts, config: Config, policy: Policy) -> None:
    """Everybody pins the twin's roster and the federation's limits; the job is written."""
    for home in homes.values():
        home.configure(label_owner=facts.label_owner)
    roster = make_roster({n.id: homes[n.id] for n in facts.nodes}, facts.label_owner)
    for home in homes.values():
        write_json(home.path / ROSTER, roster.to_json())
        write_json(home.path / COMMON, policy.to_json())
    plan = make_plan(config, facts, roster, policy, os.urandom(32))
    profile = next(p for p in PROFILES if p == config.secure.profile)
    kem = next(k for k in KEMS if k == config.secure.kem)
    write_job(job, Job(plan, roster, policy, profile, kem))
