"""What the bank adds: its labels before a training, and the model after it, on its own machine.

The coordinator never sees a label, a score or the fused model; what it knows of a training is round sums.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedprofile.alignment.hashing import split_bucket
from fedprofile.config.planning import MANY_ROWS
from fedprofile.data.assemble import labels_from_frame
from fedprofile.data.reading import read_frame
from fedprofile.deployment.node import read_request, write_request
from fedprofile.enrolment import Request
from fedprofile.errors import UsageError
from fedprofile.governance.permits import SimulatedPermit
from fedprofile.label_owner.home import write_owner
from fedprofile.label_owner.party import SCORE_SUM, SHARED_MODEL, TRAIN_BELOW, mark_concluded, unconcluded
from fedprofile.node.home import NodeHome
from fedprofile.node.intake import home_contract
from fedprofile.node.membership import pinned_roster
from fedprofile.node.snapshot import held_table, quality_figure
from fedprofile.node.source import read_ids
from fedprofile.secagg.identity import Identity
from fedprofile.types import RunPlan, Table, TaskKind

DRAWS = 500


def give_labels(home: NodeHome, file: Path, id_column: str, kinds: Mapping[str, TaskKind], fold: int) -> Request:
    """Align a file of labels to the snapshot, keep it in the home, and ask to be the label owner.

    Raises DataError for labels that do not fit their kinds, or of customers that the snapshot lacks.
    """
    frame = read_frame(file.parent, file.name, id_column)
    _, ids = read_ids(held_table(home), SimulatedPermit())  # every id: a label needs no consent to stay at home
    labels, tasks, _ = labels_from_frame(frame, file.name, id_column, kinds, Table(ids, {}))
    write_owner(home.path, labels, fold)
    train = int((split_bucket(ids, fold) < TRAIN_BELOW).sum())
    home.configure(label_owner=home.config.party)
    request = replace(read_request(home), tasks=tasks, many_rows=train > MANY_ROWS)
    return write_request(home, request)


@dataclass(frozen=True)
class Concluded:
    """The fused model's folder, what was measured on test customers, and its version in the registry, if any.

    ``quality``: the data-quality figure of the bank's own snapshot. Partners see theirs at home, and nobody else does.
    """

    bundle: Path
    tasks: dict[str, Any]
    version: str | None
    quality: float | None


def conclude(home: NodeHome, out: Path, uri: str | None, view_dropout: float = 0.15) -> Concluded:
    """Fuse the opened score sum with the bank's own columns, calibrate, judge on test customers, write the bundle.

    Models that need several parties' tables are absent, with the reason. ``uri``: the bank's own MLflow store, None
    for none. Raises UsageError before a training has ended here, or when another one begins meanwhile.
    """
    from fedprofile.label_owner.evaluate import fuse
    from fedprofile.label_owner.judging import DEPLOYED, judge_tasks
    from fedprofile.models.fusion import PARTS
    from fedprofile.registry.bundle import write_bundle
    from fedprofile.registry.describing import Origin, describe_model

    with home.lock():
        (held, scores), roster = _ended(home), pinned_roster(home)
        shared = home.read_arrays(SHARED_MODEL)
    if held is None or roster is None or scores is None or shared is None:
        raise UsageError("no training has ended in this home", "Wait for one: `fedprofile node plans` shows its plan.")
    if out.exists():
        raise UsageError(f"{out} exists", "Name another folder with --out.")
    plan = RunPlan.from_json(held)
    fusion = fuse(home, plan, roster, view_dropout, PARTS)
    with home.lock():
        if _ended(home) != (held, scores):  # fused of what is in no bundle's plan
            raise UsageError("another training began in this home meanwhile", "Conclude that one once it has ended.")
    tasks = judge_tasks(fusion, None, plan.tasks, DRAWS, plan.seed, DEPLOYED)
    meta = describe_model(home, plan, roster, fusion, tasks, Origin(extra={"id": home_contract(home.path).id.name}))
    signer = Identity.from_seed(home.derive("identity"))
    quality = quality_figure(home.path)
    facts = {"plan": plan.hash.hex(), "quality": quality, "tasks": tasks}
    out.mkdir(parents=True)
    try:
        write_bundle(out / "bundle", fusion.fused, meta, shared, signer)
        (out / "result.json").write_text(json.dumps(facts, indent=1))
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    with home.lock():
        if _ended(home) == (held, scores):
            mark_concluded(home)
    version = None if uri is None else _register(uri, out, plan, tasks)
    return Concluded(out / "bundle", tasks, version, quality)


def drop(home: NodeHome) -> str:
    """Let the next plan take the place of a training that ended and was not concluded; returns its plan's hash.

    Raises UsageError where there is none.
    """
    with home.lock():
        held = unconcluded(home)
        if held is None:
            raise UsageError("no training waits to be concluded in this home", "The next plan can begin.")
        mark_concluded(home)
    return RunPlan.from_json(held).hash.hex()


def _ended(home: NodeHome) -> tuple[bytes | None, bytes | None]:
    """The plan of the home's last training, and the sum of scores that it opened."""
    return home.read("plan.json"), home.read(SCORE_SUM)


def _register(uri: str, out: Path, plan: RunPlan, tasks: dict[str, Any]) -> str | None:
    from fedprofile.mlflow_io import tracking

    tags = {tracking.PRIVACY_EPSILON: "none" if plan.label_eps is None else str(plan.label_eps * len(plan.tasks))}
    with tracking.TrackingRun.open(uri, "fedprofile", f"bank {plan.hash.hex()[:12]}", tags) as run:
        run.log_tasks(tasks)
        return run.log_model(out / "bundle", True)
