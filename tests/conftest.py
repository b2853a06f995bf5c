"""A tiny invented federation with real homes, nodes and masks, and the loop that stands in for Flower."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fedprofile.config.schema import Config
from fedprofile.data.example import example
from fedprofile.errors import ProtocolError

LONGEST = (
    "deployment/test_commands.py",
    "simulation/test_job.py",
    "config/test_run_each.py",
    "flower/test_wire.py",
    "flower/test_ray.py",
    "coordinator/test_rounds.py",
    "secagg/test_adversary.py",
    "simulation/test_baselines.py",
    "node/test_recompute.py",
    "test_readme.py",
    "flower/test_resident.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one of them keeps a worker busy while the others have nothing left to do."""
    rank = {Path(__file__).parent / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@dataclass
class World:
    """One copy of a federation. ``job`` is what its coordinator was told; homes lie under ``root``/nodes."""

    root: Path
    job: Any
    config: Config
    federation: Any
    dealt: Any
    alignment: Any
    nodes: dict[str, Any] = field(default_factory=dict)

    def home(self, party: str) -> Any:
        from fedprofile.node.home import NodeHome

        return NodeHome(self.root / "nodes" / party)

    @property
    def homes(self) -> dict[str, Any]:
        return {p.id: self.home(p.id) for p in self.job.roster.parties}

    def restart(self, party: str) -> Any:
        """A new process of the node, as far as its home can tell."""
        import torch

        from fedprofile.label_owner.party import open_node

        torch.set_num_threads(1)  # as a node's own process does
        self.nodes[party] = open_node(self.root / "nodes" / party)
        return self.nodes[party]

    def node(self, party: str) -> Any:
        return self.nodes.get(party) or self.restart(party)

    def ask(self, party: str, type_: str, body: dict[str, Any] | None = None, *parts: bytes) -> Any:
        from fedprofile.messages import Envelope

        return Envelope.decode(self.node(party).handle(Envelope(type_, body or {}, parts).encode()))

    def plan_body(self, plan: Any = None) -> dict[str, str]:
        return {
            "plan": (plan or self.job.plan).to_json().decode(),
            "profile": self.job.profile,
            "roster": self.job.roster.to_json(),
        }

    def exchange(self, watch: Any = None, log: Any = None) -> Any:
        """A coordinator; made again after a crash it reads the same checkpoint. ``log``: its audit log, if it has one."""
        from fedprofile.coordinator.checkpoint import CheckpointStore
        from fedprofile.coordinator.rounds import Watch, conduct

        return conduct(self.job, CheckpointStore(self.root), watch or Watch(), log)

    def drive(
        self, exchange: Any = None, via: Callable[[str, bytes], bytes] | None = None, until: str = "", times: int = 1
    ) -> Any:
        """The whole transport. Stops short of asking for the ``times``-th message of type ``until``, returns it then."""
        from fedprofile.messages import Envelope

        exchange = exchange or self.exchange()
        deliver = via or (lambda party, request: self.node(party).handle(request))
        try:
            requests = next(exchange)
            while True:
                times -= until == Envelope.decode(next(iter(requests.values()))).type
                if not times:
                    return requests
                requests = exchange.send({p: deliver(p, r) for p, r in requests.items()})
        except StopIteration as end:
            return end.value


def build(root: Path, config: Config, parties: tuple[str, ...]) -> World:
    """What ``fedprofile.simulation.job`` does before the first message."""
    from fedprofile.config import planning
    from fedprofile.coordinator.job import Job
    from fedprofile.simulation import homes, nodes, plan

    federation = example(parties)
    dealt = nodes.deal(federation, config.members, config.federation.overlap)
    alignment = nodes.align(dealt, federation.digest, planning.views_needed(config))
    plan.check_federation(config, federation, dealt, alignment)
    secure = config.secure
    modes = (config.federation.secrets, config.federation.consent, secure.profile, config.align.mode, secure.kem)
    made = homes.make_homes(root / "nodes", federation, dealt, *modes)
    homes.give_labels(made[federation.label_owner], federation, config.data.fold)
    if config.align.mode == "simulated":
        homes.give_alignment(made, federation.label_owner, alignment)
    facts = plan.facts_of(config, federation, dealt)
    roster, policy = homes.make_roster(made, federation.label_owner), planning.make_policy(config, facts)
    homes.pin(made, roster, policy)
    agreed = planning.make_plan(config, facts, roster, policy, None)
    job = Job(agreed, roster, policy, secure.profile, secure.kem)
    return World(root, job, config, federation, dealt, alignment)


def tiny(**learning: Any) -> Config:
    """Two rounds of two steps of a network with eight hidden units."""
    config = Config()
    config.data.members, config.privacy.min_release = 1, 40
    config.model.hidden, config.model.profile, config.model.replicas = 8, 8, 2
    config.learning.rounds, config.learning.steps, config.learning.trees = 2, 2, "never"
    for name, value in learning.items():
        setattr(config.learning, name, value)
    return config


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    return tiny


@pytest.fixture(scope="session")
def build_world() -> Callable[..., World]:
    return build


@pytest.fixture(scope="session")
def _built(tmp_path_factory):
    made: dict[str, World] = {}

    def get(members: int) -> World:
        name = f"members{members}"
        if name not in made:
            config = tiny()
            config.data.members = members
            made[name] = build(tmp_path_factory.mktemp(name), config, ("bank", "ecommerce", "tax"))
        return made[name]

    return get


def _copy(world: World, root: Path) -> World:
    shutil.copytree(world.root, root, dirs_exist_ok=True)
    return replace(world, root=root, nodes={}, config=copy.deepcopy(world.config))


@pytest.fixture
def world(_built, tmp_path) -> World:
    """bank, ecommerce, tax: three nodes, nothing trained yet, share=all."""
    return _copy(_built(1), tmp_path / "world")


@pytest.fixture
def roles(_built, tmp_path) -> World:
    """bank and three members each of ecommerce and tax, who share their encoders."""
    return _copy(_built(3), tmp_path / "roles")


@pytest.fixture(scope="session")
def _united_once(tmp_path_factory) -> tuple[World, World, Any]:
    """Before the first message, before the first round, and after the whole run, with its Outcome."""
    import numpy as np

    from fedprofile.node.source import write_table
    from fedprofile.types import Table

    config = tiny()
    config.align.mode = "union"
    fresh = build(tmp_path_factory.mktemp("union"), config, ("bank", "ecommerce", "tax"))
    table = next(n for n in fresh.dealt if n.id == "tax").table
    ids = np.concatenate([table.ids, np.array([f"OUT-{i:04d}" for i in range(300)])])
    columns = {name: np.concatenate([v, v[:300]]) for name, v in table.columns.items()}
    write_table(Table(ids, columns, table.categorical), fresh.home("tax").path / "table.parquet")
    ready = _copy(fresh, tmp_path_factory.mktemp("ready") / "world")
    ready.drive(until="round")
    done = _copy(ready, tmp_path_factory.mktemp("done") / "world")
    return fresh, ready, (done, done.drive())


@pytest.fixture
def united(_united_once, tmp_path) -> World:
    """As ``world``, with align=union, and 300 customers of the tax office whom the bank does not have."""
    return _copy(_united_once[0], tmp_path / "united")


@pytest.fixture
def united_ready(_united_once, tmp_path) -> World:
    """``united`` with labels released."""
    return _copy(_united_once[1], tmp_path / "united-ready")


@pytest.fixture
def united_finished(_united_once, tmp_path) -> tuple[World, Any]:
    world, outcome = _united_once[2]
    return _copy(world, tmp_path / "united-finished"), outcome


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory, _built):
    done = _copy(_built(1), tmp_path_factory.mktemp("finished") / "world")
    return done, done.drive()


@pytest.fixture
def finished(finished_once, tmp_path) -> tuple[World, Any]:
    """``world`` after its whole run, and the coordinator's Outcome."""
    world, outcome = finished_once
    return _copy(world, tmp_path / "finished"), outcome


@pytest.fixture(scope="session")
def _ready(tmp_path_factory, _built):
    made: dict[int, tuple[World, dict[str, bytes]]] = {}

    def get(members: int) -> tuple[World, dict[str, bytes]]:
        if members not in made:
            world = _copy(_built(members), tmp_path_factory.mktemp(f"ready{members}") / "world")
            made[members] = world, world.drive(until="round", times=1 if members == 1 else 3)
        return made[members]

    return get


@pytest.fixture
def ready(_ready, tmp_path) -> tuple[World, dict[str, bytes]]:
    """``world`` with keys agreed and labels released, and the requests of round 1, not yet asked."""
    world, requests = _ready(1)
    return _copy(world, tmp_path / "ready"), requests


@pytest.fixture
def roles_ready(_ready, tmp_path) -> tuple[World, dict[str, bytes]]:
    """The same for ``roles``, with shared bins."""
    world, requests = _ready(3)
    return _copy(world, tmp_path / "roles_ready"), requests


@pytest.fixture(scope="session")
def fused(finished_once):
    """The fusion of ``finished`` at the bank, linear parts only; read only."""
    from fedprofile.label_owner.evaluate import fuse

    world, _ = finished_once
    return fuse(world.home("bank"), world.job.plan, world.job.roster, 0.0, ["linear"])


@pytest.fixture
def code_of() -> Callable[[Callable[[], Any]], str]:
    """The fixed code with which a call is refused."""

    def code(call: Callable[[], Any]) -> str:
        with pytest.raises(ProtocolError) as refused:
            call()
        return refused.value.code

    return code


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[tuple[str, Callable[[str], None]]]:
    """A URL of a real server of this machine, on a socket of its own, and what starts and stops it."""
    pytest.importorskip("psycopg", reason="PostgreSQL: psycopg is not installed")
    if any(shutil.which(tool) is None for tool in ("initdb", "pg_ctl")):
        pytest.skip("PostgreSQL: initdb and pg_ctl are not on this machine")
    # Not below pytest's own folder, which nobody but root may enter; and it refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="fp-pg-", dir="/tmp"))
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []

    def run(tool: str, *words: str) -> None:
        command = [*other, tool, "-D", str(folder / "data"), *words]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        if other:
            os.chown(folder, 65534, 65534)
        run("initdb", "-U", "owner", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        words = {"start": ("-w", "-l", str(folder / "log"), "-o", options), "stop": ("-m", "immediate")}

        def control(verb: str) -> None:
            run("pg_ctl", "-s", *words[verb], verb)

        control("start")
        try:
            yield f"postgresql://owner@/postgres?host={folder}", control
        finally:
            control("stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_server) -> str:
    return postgres_server[0]
