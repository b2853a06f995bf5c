"""The ServerApp: reads a job file, drives the coordinator's generator over Flower's grid, leaves the outcome beside it.

``context.run_config["job"]`` names the job folder; on Ray, which passes no run config, ``FEDPROFILE_JOB`` does.
Parties are matched to Flower nodes by asking each node who it is; fps1's signatures decide whether that was true.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.job import Job
from fedprofile.coordinator.rounds import Outcome, Watch, conduct
from fedprofile.errors import NodeFailed
from fedprofile.flower.records import MESSAGE_TYPE, pack, unpack
from fedprofile.messages import Envelope
from fedprofile.types import digest

JOB = "FEDPROFILE_JOB"
POLL = 0.25
ANSWER_WITHIN = 600.0
app = ServerApp()
_watches: dict[Path, Watch] = {}
_abandoned: set[Path] = set()


@app.main()
def main(grid: Grid, context: Context) -> None:
    folder = Path(str(context.run_config.get("job") or os.environ[JOB]))
    job = Job.from_json((folder / "job.json").read_text())
    _abandoned.discard(folder)
    nodes = _identify(grid, folder, {p.id for p in job.roster.parties})
    exchange = conduct(job, CheckpointStore(folder), _watches.get(folder, Watch()))
    try:
        requests = next(exchange)
        while True:
            requests = exchange.send(talk(grid, folder, nodes, requests, job.profile == "resilient"))
    except StopIteration as done:
        _write_outcome(folder, done.value)


@contextmanager
def watching(folder: Path, watch: Watch) -> Iterator[None]:
    """Tell ``watch`` about the run of this job folder, where ServerApp and watcher share a process."""
    _watches[folder] = watch
    try:
        yield
    finally:
        del _watches[folder]


def abandon(folder: Path) -> None:
    """Make a ServerApp that still waits for this job's nodes give up."""
    _abandoned.add(folder)


def talk(
    grid: Grid, folder: Path, nodes: Mapping[str, int], requests: Mapping[str, bytes], absent: bool = False
) -> dict[str, bytes]:
    """Send each party its request and wait for all answers; raises NodeFailed for the first that has none.

    ``absent``: parties without an answer are left out instead; whether the run can do without is fps1's question.
    """
    messages = {
        party: Message(pack(data), nodes[party], MESSAGE_TYPE, ttl=ANSWER_WITHIN) for party, data in requests.items()
    }
    ids = dict(zip(grid.push_messages(messages.values()), messages, strict=True))
    answers: dict[str, bytes] = {}
    lost: set[str] = set()
    give_up = time.monotonic() + ANSWER_WITHIN
    while len(answers) + len(lost) < len(ids):
        for reply in grid.pull_messages([i for i, party in ids.items() if party not in answers and party not in lost]):
            party = ids[reply.metadata.reply_to_message_id]
            if not reply.has_error():
                answers[party] = unpack(reply)
            elif absent:
                lost.add(party)
            else:
                raise NodeFailed(party, f"flower_error_{reply.error.code}")
        if len(answers) + len(lost) < len(ids):
            if folder in _abandoned or (time.monotonic() > give_up and not absent):
                raise NodeFailed(next(p for p in requests if p not in answers), "no_answer")
            if time.monotonic() > give_up:
                break
            time.sleep(getattr(grid, "poll", POLL))
    return {party: answers[party] for party in requests if party in answers}


def _identify(grid: Grid, folder: Path, roster: set[str]) -> dict[str, int]:
    """Party id -> Flower node id, by asking. Raises NodeFailed unless the answers are the roster, each once."""
    while len(ids := list(grid.get_node_ids())) < len(roster):
        if folder in _abandoned:
            raise NodeFailed(sorted(roster)[0], "no_answer")
        time.sleep(POLL)
    names = {str(i): i for i in ids}
    answers = talk(grid, folder, names, dict.fromkeys(names, Envelope("identify").encode()))
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


def _write_outcome(folder: Path, outcome: Outcome) -> None:
    plain = {
        "summaries": outcome.summaries,
        "openings": outcome.openings,
        "wire": asdict(outcome.wire),
        "encoder_digests": {
            role: digest("encoder/1", *(name.encode() + weights[name].tobytes() for name in sorted(weights))).hex()
            for role, weights in outcome.encoders.items()
        },
    }
    (folder / "outcome.json").write_text(json.dumps(plain, indent=1))
