"""A small federation on disk: a role of three members, a role of one, a bank."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedprofile.config.compose import compose
from fedprofile.config.planning import make_plan, make_policy, views_needed
from fedprofile.coordinator.job import Job
from fedprofile.data.example import example
from fedprofile.simulation.homes import give_alignment, give_labels, make_homes, make_roster, pin, write_job
from fedprofile.simulation.nodes import SimulatedNode, align, deal
from fedprofile.simulation.plan import check_federation, facts_of

# Test modules share wire_audit and wire_secrets, which pytest's importlib mode does not put on the path.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("wire_audit", "wire_secrets")

SETTINGS = (
    "data=folder", "data.root=.", "privacy.min_release=30", "learning.rounds=2", "learning.steps=3",
    "model.hidden=16", "model.profile=8",
)  # fmt: skip


@dataclass(frozen=True)
class Federated:
    """A job folder and its nodes' homes, ready to run."""

    job: Job
    folder: Path
    homes: dict[str, Path]


def small_federation(root: Path, *settings: str, shops: int = 3, singles: tuple[str, ...] = ("tax",)) -> Federated:
    """Five nodes: the bank, three shops that share one encoder, and one tax office; all of it made from nothing."""
    config = compose([*SETTINGS, *settings])
    federation = example(("bank", "shop", *singles))
    several = [node for node in deal(federation, shops, 1.0) if node.role in ("bank", "shop")]
    nodes = [*several, *(SimulatedNode(name, name, federation.tables[name]) for name in singles)]
    alignment = align(nodes, federation.digest, views_needed(config))
    check_federation(config, federation, nodes, alignment)
    modes = ("simulated", "simulated", config.secure.profile, config.align.mode, config.secure.kem)
    homes = make_homes(root / "nodes", federation, nodes, *modes)
    give_labels(homes["bank"], federation, config.data.fold)
    if config.align.mode == "simulated":
        give_alignment(homes, "bank", alignment)
    roster, policy = make_roster(homes, "bank"), make_policy(config, facts_of(config, federation, nodes))
    pin(homes, roster, policy)
    plan = make_plan(config, facts_of(config, federation, nodes), roster, policy, None)
    job = Job(plan, roster, policy, config.secure.profile, config.secure.kem)
    write_job(root / "job", job)
    return Federated(job, root / "job", {party: home.path for party, home in homes.items()})


@pytest.fixture(scope="session")
def small():
    """``small(root, *settings, shops=3, singles=("tax",))`` makes a ``Federated``."""
    return small_federation


@pytest.fixture(scope="session")
def deployment(tmp_path_factory) -> Iterator[Any]:
    """SuperLink, executor and gate as processes of this machine, with no node registered yet; see deployment.py."""
    from deployment import deployed

    tests = str(Path(__file__).parent)
    with deployed(
        tmp_path_factory.mktemp("deployment"),
        env={"PYTHONPATH": os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])},
    ) as running:
        yield running
