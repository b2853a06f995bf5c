"""The ServerApp: reads a job file, drives the coordinator's generator over Flower's grid, leaves the outcome beside it.

``context.run_config["job"]`` names the job folder; on Ray, which passes no run config, ``FEDPROFILE_JOB`` does. In a
deployment the folder's ``nodes.json`` says which registered public key each party has, and nobody is asked who it is;
elsewhere nodes are asked, and fps1's signatures decide whether that was true. A ServerApp that died is started again
on the same folder and goes on from its checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedprofile.coordinator.audit import POINTER, CoordinatorLog, failed
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.job import Job
from fedprofile.coordinator.rounds import Outcome, Watch, conduct
from fedprofile.errors import DataError, FedprofileError, NodeFailed, UsageError
from fedprofile.flower.exchange import POLL_S, Exchange, abandon, take_up
from fedprofile.flower.objects import quicken_pulls
from fedprofile.governance.audit_coordinator import Finished
from fedprofile.messages import Envelope
from fedprofile.types import Progress

__all__ = ["JOB", "abandon", "app", "watching"]

JOB = "FEDPROFILE_JOB"
NODES, PROGRESS, FAILURE, PID = "nodes.json", "progress.json", "failure.json", "server_app.pid"
AWAY_S, ANSWER_S, PROBE_S = 600.0, 6 * 3600.0, 60.0
"""In a deployment: how long a node or SuperLink may be away, how long a node that is there may take,
and after which silence it is asked whether the request arrived."""
PENDING_S = 2.0
_ENDS_WITHIN_S = 10.0
_LOG = "See processes/superexec.log in the coordinator's folder."
app = ServerApp()
_watches: dict[Path, Watch] = {}


@app.main()
def main(grid: Grid, context: Context) -> None:
    folder = Path(str(context.run_config.get("job") or os.environ[JOB]))
    take_up(folder)
    if (folder / NODES).exists():
        with _told(folder), _alone(folder):
            (folder / FAILURE).unlink(missing_ok=True)  # once whoever wrote one has ended
            job, roster = _job(folder)
            with _logged(folder, job) as audit:
                quicken_pulls()
                keys = {party: pem.encode() for party, pem in json.loads((folder / NODES).read_text()).items()}
                nodes = _registered(grid, {party: keys[party] for party in roster})
                watch = Watch(lambda p: _write_progress(folder, p), pending=lambda parties: _await(folder, parties))
                _conduct(job, Exchange(grid, folder, nodes, ANSWER_S, AWAY_S, PROBE_S), watch, audit)
    else:
        job, roster = _job(folder)
        with _logged(folder, job) as audit:
            nodes = _identify(grid, folder, roster)
            _conduct(job, Exchange(grid, folder, nodes), _watches.get(folder, Watch()), audit)


def _job(folder: Path) -> tuple[Job, set[str]]:
    job = Job.from_json((folder / "job.json").read_text())
    return job, {p.id for p in job.roster.parties}


def _conduct(job: Job, exchange: Exchange, watch: Watch, audit: CoordinatorLog | None) -> None:
    run = conduct(job, CheckpointStore(exchange.folder), watch, audit)
    try:
        requests = next(run)
        while True:
            requests = run.send(exchange.talk(requests, job.profile == "resilient"))
    except StopIteration as done:
        if audit is not None:
            audit.write(Finished(job.plan.run_id.hex(), len(done.value.summaries)), checkpoint=True)
        _write_outcome(exchange.folder, done.value)


@contextmanager
def _logged(folder: Path, job: Job) -> Iterator[CoordinatorLog | None]:
    """The audit log of the coordinator whose job this is, which is told how the run fails; None in a simulation."""
    file = folder / POINTER
    audit = CoordinatorLog(Path(file.read_text())) if file.exists() else None
    try:
        yield audit
    except Exception as error:
        if audit is not None:
            with suppress(DataError, OSError):  # then it is the log that failed, and that is what is told
                audit.write(failed(job.plan.run_id, error))
        raise


@contextmanager
def watching(folder: Path, watch: Watch) -> Iterator[None]:
    """Tell ``watch`` about the run of this job folder, where ServerApp and watcher share a process."""
    _watches[folder] = watch
    try:
        yield
    finally:
        del _watches[folder]


# -- who is who ------------------------------------------------------------------------------------
def _registered(grid: Grid, keys: Mapping[str, bytes]) -> dict[str, int]:
    """Party id -> Flower node id, by the registered public key (PEM). Waits until all are online.

    Raises NodeFailed for a party that does not come.
    """
    parties = {pem: party for party, pem in keys.items()}
    give_up = time.monotonic() + AWAY_S
    while True:
        online = {parties[n.public_key]: int(n.node_id) for n in grid.get_nodes() if n.public_key in parties}
        if online.keys() == keys.keys():
            return online
        if time.monotonic() > give_up:
            raise NodeFailed(min(keys.keys() - online.keys()), "not_online")
        time.sleep(POLL_S)


def _identify(grid: Grid, folder: Path, roster: set[str]) -> dict[str, int]:
    """Party id -> Flower node id, by asking. Raises NodeFailed unless the answers are the roster, each once."""
    exchange = Exchange(grid, folder, {})
    while len(ids := list(grid.get_node_ids())) < len(roster):
        if exchange.abandoned:
            raise NodeFailed(min(roster), "no_answer")
        time.sleep(POLL_S)
    names = {str(i): i for i in ids}
    answers = Exchange(grid, folder, names).talk(dict.fromkeys(names, Envelope("identify").encode()))
    nodes: dict[str, int] = {}
    for name, data in answers.items():
        party = str(Envelope.decode(data).body.get("party"))
        if party in nodes:
            raise NodeFailed(party, "identified_twice")
        if party in roster:
            nodes[party] = names[name]
    if missing := sorted(roster - nodes.keys()):
        raise NodeFailed(missing[0], "not_identified")
    return nodes


# -- files of the job folder -----------------------------------------------------------------------
@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two ServerApps on one job would agree keys against each other. Raises UsageError for the second.

    One whose run was stopped a moment ago is waited for.
    """
    with open(folder / "lock", "w") as handle:
        give_up = time.monotonic() + _ENDS_WITHIN_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise UsageError(f"another ServerApp works on {folder}", "Stop that run first.") from None
                time.sleep(POLL_S)
        (folder / PID).write_text(str(os.getpid()))
        yield


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Leave why a run failed where the coordinator's commands look; our errors quote nothing private."""
    try:
        yield
    except FedprofileError as error:
        _write(folder / FAILURE, {"error": type(error).__name__, "what": error.what, "mend": error.mend})
        raise
    except Exception as error:  # nothing of whose text we know what it quotes
        kind = type(error).__name__
        _write(folder / FAILURE, {"error": kind, "what": f"unexpected {kind}", "mend": _LOG})
        raise


def _write_progress(folder: Path, progress: Progress) -> None:
    _write(folder / PROGRESS, {**asdict(progress), "at": time.time()})


def _await(folder: Path, parties: tuple[str, ...]) -> None:
    """Say whose people have not approved the plan yet, and let some time pass."""
    _write(folder / PROGRESS, {**asdict(Progress("approve")), "waiting": list(parties), "at": time.time()})
    time.sleep(PENDING_S)


def _write_outcome(folder: Path, outcome: Outcome) -> None:
    plain = {
        "summaries": outcome.summaries,
        "openings": outcome.openings,
        "wire": asdict(outcome.wire),
    }
    _write(folder / "outcome.json", plain)


def _write(path: Path, plain: Mapping[str, object]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(plain, indent=1))
    temporary.replace(path)
