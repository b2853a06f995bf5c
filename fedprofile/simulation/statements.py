"""The report of a run, and the plain sentences it must state about what was simulated and what was not protected."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fedprofile.config.compose import config_hash, overrides
from fedprofile.config.schema import Config
from fedprofile.data.federation import Federation
from fedprofile.label_owner.evaluate import Fusion
from fedprofile.mlflow_io.store import without_password
from fedprofile.registry.provenance import git_commit
from fedprofile.report.schema import SCHEMA_VERSION
from fedprofile.secagg.setup_messages import is_hybrid
from fedprofile.simulation.homes import is_simulated
from fedprofile.simulation.nodes import SimulatedNode
from fedprofile.simulation.quality import table_quality
from fedprofile.types import RunPlan


def describe_run(
    *,
    config: Config,
    federation: Federation,
    nodes: list[SimulatedNode],
    plan: RunPlan,
    fusion: Fusion,
    tasks: dict[str, Any],
    outcome: dict[str, Any],
    run_dir: Path,
    mlflow_run_id: str | None,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """report.json, as ``fedprofile.report.schema`` documents it."""
    eps = {t.name: plan.label_eps for t in plan.tasks}
    curve = outcome["summaries"]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "name": run_dir.name,
            "dir": str(run_dir),
            "command": without_password(" ".join(["fedprofile train", *overrides(run_dir)])),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": version("fedprofile"),
            "git_commit": git_commit(),
            "config_sha256": config_hash(config),
            "seed": config.seed,
            "fold": config.data.fold,
            "mlflow_run_id": mlflow_run_id,
        },
        "data": _data(federation, nodes, fusion),
        "modes": _modes(config, plan),
        "statements": statements(config, plan),
        "warnings": [*federation.warnings, *_saturation(curve)],
        "tasks": tasks,
        "learning_curve": {
            "rounds": [int(s["t"]) for s in curve],
            "loss": {t.name: [s[f"loss.{t.name}"] for s in curve] for t in plan.tasks},
        },
        "privacy": {
            "label_eps": eps,
            "label_eps_total": None if plan.label_eps is None else plan.label_eps * len(plan.tasks),
            "customers_released": int(fusion.data.train.sum()),
            "mechanism": "none: true labels" if plan.label_eps is None else "k-ary randomised response, once for ever",
            "openings": outcome["openings"],
        },
        "wire": outcome["wire"],
        "seconds": dict(seconds),
    }


def _data(federation: Federation, nodes: list[SimulatedNode], fusion: Fusion) -> dict[str, Any]:
    data, owner = fusion.data, federation.tables[federation.label_owner].ids
    return {
        "name": federation.name,
        "digest": federation.digest.hex(),
        "customers": len(data.table),
        "split": {part: int(getattr(data, part).sum()) for part in ("train", "valid", "test")},
        "parties": [
            {
                "id": node.id,
                "role": node.role,
                "rows": len(node.table),
                "columns": len(node.table.columns),
                "customers_known": int(np.isin(node.table.ids, owner).sum()),
                "quality": table_quality(node.table, node.role),
            }
            for node in nodes
        ],
        "tasks": {t.name: {"kind": t.kind, "classes": t.classes} for t in federation.tasks},
    }


def _modes(config: Config, plan: RunPlan) -> dict[str, Any]:
    return {
        "federation": config.federation.backend,
        "members": config.members,
        "overlap": config.federation.overlap,
        "align": config.align.mode,
        "consent": config.federation.consent,
        "secrets": config.federation.secrets,
        "secure": config.secure.profile,
        "verify": "recompute" if plan.recompute else "none",
        "privacy": config.privacy.mechanism,
        "learning": config.learning.name,
        "rounds": plan.learning.rounds,
        "steps": plan.learning.steps,
    }


ALIGNMENT = {
    "psi": "Alignment was private set intersection (align=psi, Curve25519): the label owner learnt which partner knows "
    "which of its customers and about how many each partner has; each partner learnt which of its own customers the "
    "label owner has, whether enough other partners know them, and about how many customers the label owner has; the "
    "coordinator learnt these sizes, rounded up by at most an eighth. No id left a node.",
    "union": "Alignment was a union (align=union, Curve25519; for research): no partner was told which of its "
    "customers others have. Every node learnt about how many customers each node and all together have; a "
    "partner, to a sixteenth, what part of its list the label owner has, and from a label that odds of a "
    "customer's being the label owner's change by at most e^epsilon a task, and from labels that are "
    "missing, more; the label owner, which of its customers enough partners know, and their score sums. "
    "The coordinator learnt which random names are on whose lists; with any node's help it could say who "
    "these are. A partner was given labels of nobody among true ones, and its loss was corrected for "
    "them.",
    "plain": "Alignment was plain (align=plain): each partner sent the label owner a hash of every id that it holds, "
    "sealed on the way; the label owner could try ids against them and so find customers that are not its own.",
    "simulated": "Alignment was simulated: the spine was built in one process that saw all ids; no id crossed the "
    "wire.",
}
"""What ``align`` told whom."""


def statements(config: Config, plan: RunPlan) -> list[str]:
    """What a reader would otherwise have to know."""
    said = [
        ALIGNMENT[config.align.mode],
        "Consent was simulated: every customer was taken to consent.",
        "The partners were simulated on one machine; pooled models, partners not federated and the gain by partner "
        "exist only in simulation.",
    ]
    if config.federation.overlap < 1:
        said.append(
            f"federation.overlap={config.federation.overlap:g}: each partner was given a part of its customers; the "
            "pooled models saw them all."
        )
    if is_simulated(config.federation.secrets):
        said.append(
            "Secrets were simulated: every node's keys were derived from the data's identity, and caps that span runs "
            "were not enforced."
        )
    if config.secure.profile == "none":
        said.append("secure=none: updates and scores were not masked; the coordinator could read each of them.")
    if config.secure.profile == "resilient":
        said.append(
            "secure=resilient secure.accept_differencing=true: a sum opens over the nodes that uploaded, so two rounds "
            "may differ by one node and tell what it added. Scores open over all nodes or not at all."
        )
    if config.privacy.mechanism == "none":
        said.append("privacy=none: the sums themselves carry no noise.")
    said.append(_agreed(config.secure.kem))
    said.append(_verified(config, plan))
    if plan.label_eps is None:
        said.append("privacy.label_eps=null: partners were given true labels.")
    if config.secure.min_hidden == 1:
        said.append(
            "secure.min_hidden=1 fusion.min_views=1: a sum may hold one partner's contribution alone, so the label "
            "owner could read one partner's scores."
        )
    return said


def _agreed(kem: str) -> str:
    if is_hybrid(kem):
        return (
            "secure.kem=x25519_mlkem768: masks of recorded uploads stay on if X25519 or ML-KEM-768 falls, not both. "
            "Label releases and alignment letters are sealed with X25519 alone."
        )
    return "secure.kem=x25519: whoever records the traffic and one day breaks X25519 can take the masks off."


def _verified(config: Config, plan: RunPlan) -> str:
    if plan.recompute:
        return (
            "Every node recomputed each shared model that it took, from the plan's seed and all signed uploads, and "
            "would have refused another. A member can still steer the weights by its own upload, within a round's ring."
        )
    return (
        f"secure.verify={config.secure.verify} came to none: nodes took shared weights on the coordinator's word, and "
        "crafted weights that turn a sum into data of one node are not prevented."
    )


def _saturation(curve: list[dict[str, float]]) -> list[str]:
    saturated = int(sum(s["saturated"] for s in curve))
    return (
        [f"{saturated} values of updates were clipped before masking, over all rounds and nodes"] if saturated else []
    )
