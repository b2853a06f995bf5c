"""Whole federated training against a bare torch loop, and fps1 strict against none: ratios in one process.

    python experiments/benchmarks/training.py [--pairs 5] [--set KEY=VALUE ...] [--json FILE]

Each repeat runs bare loop, strict and none one after another, so that a busy machine slows all three. A ratio is
taken within a repeat; minimum, median and maximum over the repeats are printed. Wall clock and processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from bare import NodeData
from bare import train as train_bare
from federation import TASKS, Ready, in_memory, invented, prepare

from fedprofile.coordinator.rounds import Watch
from fedprofile.models.layout import encoder_shapes, shared_shapes
from fedprofile.types import LearningPlan

PROFILES = ("strict", "none")
WHAT = ("rounds", "rounds cpu", "whole", "whole cpu")
Seconds = dict[str, float]
Clock = tuple[float, float]


def federated(ready: Ready) -> tuple[Seconds, float]:
    """Seconds of one run and the mean of its last round's training losses."""
    from fedprofile.flower import client_app, server_app
    from fedprofile.flower.inprocess import run_in_process

    opened, losses = [], []

    def told(_t: int, values: dict[str, float]) -> None:
        opened.append((time.perf_counter(), time.process_time()))
        losses.append(statistics.mean(v for k, v in values.items() if k.startswith("loss.")))

    start = (time.perf_counter(), time.process_time())
    with server_app.watching(ready.job, Watch(round=told)):
        run_in_process(server_app.app, client_app.app, ready.homes, ready.job)
    end = (time.perf_counter(), time.process_time())
    client_app.forget(list(ready.homes.values()))
    return spans(start, end, opened), losses[-1]


def bare(nodes: list[NodeData], plan: LearningPlan, lean: bool) -> tuple[Seconds, float]:
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)
    start = (time.perf_counter(), time.process_time())
    clock, loss = train_bare(nodes, TASKS, plan, lean)
    return spans(start, (time.perf_counter(), time.process_time()), clock), loss


def spans(start: Clock, end: Clock, opened: list[Clock]) -> Seconds:
    """Wall and processor seconds of the whole, and from the first to the last opened sum."""
    out = {}
    for i, unit in enumerate(("", " cpu")):
        out[f"whole{unit}"] = end[i] - start[i]
        out[f"rounds{unit}"] = opened[-1][i] - opened[0][i]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--plain", action="store_true", help="also the bare loop with torch's own dropout")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    federation = invented()
    seconds: dict[str, list[Seconds]] = {
        "lean": [],
        **({"plain": []} if args.plain else {}),
        **{p: [] for p in PROFILES},
    }
    last: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(args.pairs + 1):
            folders = {p: Path(scratch).absolute() / f"{p}{repeat}" for p in PROFILES}
            ready = {p: prepare(federation, f, (f"secure={p}", *args.set)) for p, f in folders.items()}
            plan = ready["strict"].plan
            nodes = in_memory(federation, plan.replicas)
            result = {"lean": bare(nodes, plan, True), **{p: federated(ready[p]) for p in PROFILES}}
            if args.plain:
                result["plain"] = bare(nodes, plan, False)
            for name, (took, loss) in result.items():
                last[name] = loss
                if repeat:  # the first one warms up
                    seconds[name].append(took)
            times = (f"{name} {took['whole']:.2f} s" for name, (took, _) in result.items())
            print(f"{repeat}/{args.pairs}", *times, file=sys.stderr)
    shared = sum(torch.Size(s).numel() for s in shared_shapes(TASKS, plan).values())
    own = [sum(torch.Size(s).numel() for s in encoder_shapes(n.x.shape[1], plan).values()) for n in nodes]
    print(
        f"{len(nodes)} nodes, {plan.rounds} rounds of {plan.steps} steps, {shared} shared and {own} private parameters"
    )
    print("last losses:", {n: round(v, 4) for n, v in last.items()})
    rows = {
        f"{a}/{b} {what}": ratio(seconds[a], seconds[b], what)
        for a, b in (("strict", "lean"), ("none", "lean"), ("strict", "plain"), ("strict", "none"))
        if a in seconds and b in seconds
        for what in WHAT
    }
    for name, (low, mid, high) in rows.items():
        print(f"{name:24} {low:.2f} {mid:.2f} {high:.2f}")
    medians = {n: {k: statistics.median(t[k] for t in times) for k in times[0]} for n, times in seconds.items()}
    print("median seconds:", {n: {k: round(v, 2) for k, v in m.items()} for n, m in medians.items()})
    if args.json:
        args.json.write_text(
            json.dumps({"ratios": rows, "seconds": seconds, "private": own, "shared": shared}, indent=1)
        )


def ratio(above: list[Seconds], below: list[Seconds], what: str) -> tuple[float, float, float]:
    values = sorted(a[what] / b[what] for a, b in zip(above, below, strict=True))
    return values[0], statistics.median(values), values[-1]


if __name__ == "__main__":
    main()
