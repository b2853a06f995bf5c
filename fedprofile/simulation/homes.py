"""Node homes of a simulated federation, and the job file that its coordinator reads."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.job import Job
from fedprofile.data.federation import Federation
from fedprofile.label_owner.home import Membership, write_owner, write_simulated_membership
from fedprofile.models.layout import start_hash
from fedprofile.node.home import NodeConfig, NodeHome, own_secret
from fedprofile.node.policy import write_policy
from fedprofile.node.source import write_table
from fedprofile.node.spine import write_simulated_spine
from fedprofile.node.starts import trust_start
from fedprofile.secagg.identity import Identity, sign_roster
from fedprofile.simulation.nodes import Alignment, SimulatedNode
from fedprofile.types import Party, Policy, Roster, Weights

SIMULATED = "simulated"


def is_simulated(secrets: str) -> bool:
    return secrets == SIMULATED or secrets.startswith(SIMULATED + ":")


def node_secret(federation: Federation, secrets: str, party: str) -> bytes | None:
    """32 bytes from the data's identity and the party, independent of the seed; None for real node homes."""
    if not is_simulated(secrets):
        return None
    draw = secrets.partition(":")[2] or "1"
    message = f"fedprofile/simulated-secret/1|{draw}|{party}".encode()
    return hmac.digest(federation.digest, message, hashlib.sha256)


def spine_secret(federation: Federation, secrets: str) -> bytes:
    """What orders the simulated spine: the label owner's own secret, so that equal homes give equal spines."""
    owner = federation.label_owner
    simulated = node_secret(federation, secrets, owner)
    root = simulated if simulated is not None else own_secret(Path(secrets).resolve() / owner)
    return hmac.digest(root, b"fedprofile/spine/1", hashlib.sha256)


def make_homes(
    root: Path,
    federation: Federation,
    nodes: list[SimulatedNode],
    secrets: str,
    consent: str,
    profile: str = "strict",
    align: str = "psi",
    kem: str = "x25519",
) -> dict[str, NodeHome]:
    """One home a node under ``root``; real keys and journals lie under the folder ``secrets`` and outlive the run."""
    homes = {}
    for node in nodes:
        config = NodeConfig(
            party=node.id,
            role=node.role,
            label_owner=federation.label_owner,
            secrets=SIMULATED if is_simulated(secrets) else "own",
            consent=consent,
            categorical=tuple(sorted(node.table.categorical)),
            profile=profile,
            align=align,
            kem=kem,
            keys="" if is_simulated(secrets) else str(Path(secrets).resolve() / node.id),
        )
        home = NodeHome.create(root / node.id, config, node_secret(federation, secrets, node.id))
        write_table(node.table, home.path / "table.parquet")
        homes[node.id] = home
    return homes


def give_labels(home: NodeHome, federation: Federation, fold: int) -> None:
    """The label owner's own file: true labels and the split."""
    write_owner(home.path, federation.labels, fold)


def give_alignment(homes: dict[str, NodeHome], label_owner: str, alignment: Alignment) -> None:
    """Only for ``align=simulated``: every node's spine, and for the label owner which partner knows whom."""
    for party, home in homes.items():
        write_simulated_spine(home, alignment.spines[party])
    write_simulated_membership(homes[label_owner], Membership(alignment.known))


def make_roster(homes: dict[str, NodeHome], label_owner: str) -> Roster:
    """Version 1, signed by all its members."""
    identities = {party: Identity.from_seed(home.derive("identity")) for party, home in homes.items()}
    parties = tuple(
        Party(party, home.config.role, home.config.role, identities[party].sign_pk) for party, home in homes.items()
    )
    return sign_roster(Roster(1, b"", parties, label_owner), identities)


def pin(homes: dict[str, NodeHome], roster: Roster, policy: Policy) -> None:
    """Give every node its pinned roster and its own policy."""
    for home in homes.values():
        (home.path / "roster.json").write_text(json.dumps(roster.to_json()))
        write_policy(home, policy)


def give_start(folder: Path, homes: dict[str, NodeHome], start: Weights) -> None:
    """The coordinator's trained weights to begin from; every node trusts them, as one that helped to train them may."""
    folder.mkdir(parents=True, exist_ok=True)
    CheckpointStore(folder).begin_from(start)
    for home in homes.values():
        trust_start(home, start_hash(start))


def write_job(folder: Path, job: Job) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(job.to_json())
