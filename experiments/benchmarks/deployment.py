"""Seconds a round on a real SuperLink with four nodes, ours beside stock SuperNodes, and where they go.

    OMP_NUM_THREADS=1 python experiments/benchmarks/deployment.py            # about three minutes on an idle machine
    OMP_NUM_THREADS=1 python experiments/benchmarks/deployment.py --no-stock --rounds 20

One job throughout: bank and three partners, strict fps1, 100 thousand shared parameters, three steps a round; TLS,
node authentication, SQLite, every node through the gate. Processor seconds are of whole processes, from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from federation import TASKS, Ready, invented, prepare

from fedprofile.coordinator.audit import POINTER
from fedprofile.flower.app_bundle import fab_hash
from fedprofile.flower.node_key import make_node_key
from fedprofile.flower.resident import ResidentSettings
from fedprofile.flower.serve import environment
from fedprofile.flower.superlink import SuperLink, free_port
from fedprofile.models.layout import shared_shapes

PARAMETERS, STEPS = 100_000, 3
SERVE = "import sys; from pathlib import Path; from fedprofile.flower.serve import serve; serve(Path(sys.argv[1]))"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Timing:
    """When each opened sum was seen (monotonic), and processor seconds of each process at the first and last."""

    opened: list[float] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> list[float]:
        return list(np.diff(self.opened))


def make_job(folder: Path, rounds: int) -> Ready:
    """The hidden width whose shared parameters are nearest to PARAMETERS."""
    federation = invented()

    def ready(place: Path, hidden: int, rounds: int) -> Ready:
        return prepare(
            federation, place, (f"model.hidden={hidden}", f"learning.rounds={rounds}", f"learning.steps={STEPS}")
        )

    sizes = {}
    plan = ready(folder / "probe", 96, rounds).plan
    for hidden in range(96, 400, 4):
        shapes = shared_shapes(TASKS, plan.__class__(**{**vars(plan), "hidden": hidden}))
        sizes[hidden] = sum(int(np.prod(s)) for s in shapes.values())
    hidden = min(sizes, key=lambda h: abs(sizes[h] - PARAMETERS))
    print(f"hidden width {hidden}: {sizes[hidden]:,} shared parameters; {rounds} rounds of {STEPS} steps")
    return ready(folder / "job", hidden, rounds)


@contextmanager
def coordinator(folder: Path, homes: dict[str, Path]) -> Iterator[SuperLink]:
    link = SuperLink.create(folder, "Benchmark", stock=True)
    with open(folder.parent / "serve.log", "wb") as log:
        serving = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=log, stderr=log)
    try:
        link.wait_ready(90)
        for party in homes:
            link.register(party, make_node_key(folder.parent / f"{party}.key"))
        yield link
    finally:
        link.stop()
        serving.wait(30)


@contextmanager
def residents(link: SuperLink, homes: dict[str, Path]) -> Iterator[dict[str, int]]:
    nodes = {}
    for party, home in homes.items():
        folder = link.folder.parent
        settings = ResidentSettings(
            home, link.gate_address, link.authority.certificate, folder / f"{party}.key", folder / party, (fab_hash(),)
        )
        (folder / f"{party}.json").write_text(settings.to_json())
        command = [sys.executable, "-m", "fedprofile.flower.resident", str(folder / f"{party}.json")]
        with open(folder / f"{party}.log", "wb") as log:
            nodes[party] = subprocess.Popen(command, stdout=log, stderr=log)
    yield from running(link, nodes)


@contextmanager
def stock(link: SuperLink, homes: dict[str, Path]) -> Iterator[dict[str, int]]:
    nodes = {}
    for party, home in homes.items():
        folder = link.folder.parent
        place = folder / f"stock-{party}"
        (place / "flower" / "home").mkdir(parents=True)
        command = [
            str(Path(sys.executable).parent / "flower-supernode"), "--superlink", link.gate_address,
            "--root-certificates", str(link.authority.certificate),
            "--auth-supernode-private-key", str(folder / f"{party}.key"),
            "--node-config", f'home="{home}"', "--host", "127.0.0.1", "--port", str(free_port()),
        ]  # fmt: skip
        with open(folder / f"{party}.log", "wb") as log:
            nodes[party] = subprocess.Popen(command, env=environment(place), stdout=log, stderr=log)
    yield from running(link, nodes)


def running(link: SuperLink, nodes: dict[str, subprocess.Popen[bytes]]) -> Iterator[dict[str, int]]:
    try:
        while {n.name for n in link.nodes() if n.status == "online"} < nodes.keys():
            if dead := [p for p, node in nodes.items() if node.poll() is not None]:
                raise SystemExit(f"{dead[0]} ended: {(link.folder.parent / f'{dead[0]}.log').read_text()[-2000:]}")
            time.sleep(0.5)
        yield {party: node.pid for party, node in nodes.items()}
    finally:
        for node in nodes.values():
            node.terminate()
        for node in nodes.values():
            node.wait(60)


def cpu(pid: int) -> float:
    """Of the process and all that it started: a stock SuperNode has an executor start a Python for every message."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it ended between two looks; its parent's line has it next time
    return sum(int(f) for f in fields[11:15]) / TICKS + sum(cpu(int(c)) for c in children)


def measure(link: SuperLink, job: Path, nodes: dict[str, int], rounds: int) -> Timing:
    """Until ``rounds`` sums are open; then the run is stopped. The coordinator keeps its log, as it always does."""
    timing = Timing()
    (job / POINTER).write_text(str(link.folder))
    run = link.submit(job)
    seen = 0
    while seen < rounds:
        time.sleep(0.02)
        file = job / "progress.json"
        state = json.loads(file.read_text()) if file.exists() else {"stage": "", "round": 0}
        if state["round"] > seen:
            seen = state["round"]
            timing.opened.append(state["at"])
            used = processes(link, job, nodes)
            timing.before = timing.before or used
            timing.after = used
        elif (job / "failure.json").exists():
            raise SystemExit((job / "failure.json").read_text())
    if not link.run(run).finished:
        link.stop_run(run)
    return timing


def processes(link: SuperLink, job: Path, nodes: dict[str, int]) -> dict[str, float]:
    used = {name: cpu(pid) for name in ("superlink", "gate") if (pid := link.processes.pid(name))}
    used["server app"] = cpu(int((job / "server_app.pid").read_text()))
    used["four nodes"] = sum(cpu(pid) for pid in nodes.values())
    return used


def idle(link: SuperLink, seconds: float = 5.0) -> float:
    """Processor seconds a second of SuperLink and gate while nodes only ask for work."""
    pids = [pid for name in ("superlink", "gate") if (pid := link.processes.pid(name))]
    before = sum(cpu(p) for p in pids)
    time.sleep(seconds)
    return (sum(cpu(p) for p in pids) - before) / seconds


def in_process(ready: Ready) -> list[float]:
    """The same job where transport costs nothing: learning, masks, recomputing."""
    from fedprofile.coordinator.rounds import Watch
    from fedprofile.flower import client_app, server_app
    from fedprofile.flower.inprocess import run_in_process

    opened: list[float] = []
    with server_app.watching(ready.job, Watch(round=lambda _t, _values: opened.append(time.time()))):
        run_in_process(server_app.app, client_app.app, ready.homes, ready.job)
    return list(np.diff(opened))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-stock", action="store_true", help="leave the stock SuperNodes out: two minutes less")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here = in_process(make_job(folder / "here", options.rounds))
        job = make_job(folder / "ours", options.rounds)
        (folder / "coordinator").mkdir()
        with coordinator(folder / "coordinator" / "state", job.homes) as link:
            with residents(link, job.homes) as nodes:
                polling = idle(link)
                ours = measure(link, job.job, nodes, options.rounds)
            theirs: Timing | None = None
            if not options.no_stock:
                other = make_job(folder / "stock", 3)
                with stock(link, other.homes) as nodes:
                    theirs = measure(link, other.job, nodes, 3)
    report(load, here, ours, theirs, polling)


def report(load: float, here: list[float], ours: Timing, theirs: Timing | None, polling: float) -> None:
    print(f"\nload when this began: {load:.1f} on {os.cpu_count()} cores\n")
    print("| seconds a round | min | median | max | rounds |\n|---|---|---|---|---|")
    rows = {"in process (no transport)": here, "resident nodes (bar 1.5, stretch 1.0)": ours.seconds}
    if theirs is not None:
        rows["stock SuperNodes"] = theirs.seconds
    for name, values in rows.items():
        print(f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} | {max(values):.2f} | {len(values)} |")
    timings = {"resident nodes": ours} | ({"stock SuperNodes": theirs} if theirs is not None else {})
    print(f"\n| processor seconds a round | {' | '.join(timings)} |\n|---|{'---|' * len(timings)}")
    for name in ours.after:
        used = [(t.after[name] - t.before[name]) / len(t.seconds) for t in timings.values()]
        print(f"| {name} | {' | '.join(f'{u:.2f}' for u in used)} |")
    print(f"\nSuperLink and gate, in a second in which resident nodes only ask for work: {polling:.2f} s")


if __name__ == "__main__":
    main()
