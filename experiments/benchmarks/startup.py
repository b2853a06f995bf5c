"""Command to first round: wall seconds from starting ``fedprofile train`` to the line of its first opened round.

    python experiments/benchmarks/startup.py [--runs 5] [--data nhanes] [--command PATH] [KEY=VALUE ...]

Each run is paired with a process that only imports the five libraries that the job stands on, so that a ratio
can be read on a busy machine. The store of the first run is empty; it is reported apart, since MLflow then makes
its tables. Stages are seconds since the start at which their line appeared.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = "import torch, flwr, mlflow, lightgbm, sklearn"
FIRST, CPU = "rounds", "(processor)"


def processor(before: resource.struct_rusage) -> float:
    """User and system seconds of the children that have ended since ``before``."""
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime


def reference(environment: dict[str, str]) -> tuple[float, float]:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, env=environment, capture_output=True)
    return time.perf_counter() - start, processor(before)


def first_round(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Stage -> seconds at which its first line appeared; the run is interrupted after the first round."""
    start = time.perf_counter()
    seconds: dict[str, float] = {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            stage = line.split()[0] if line.strip() else ""
            seconds.setdefault(stage, time.perf_counter() - start)
            if stage == FIRST:
                break
        run.kill()
        run.wait()
    seconds[CPU] = processor(before)
    if FIRST not in seconds:
        raise SystemExit(f"no round was opened; the last stage was {list(seconds)[-1:]}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data", default="nhanes")
    parser.add_argument("--script", type=Path, help="run this in place of `-m fedprofile`, to compare start-ups")
    parser.add_argument("overrides", nargs="*", default=[])
    args = parser.parse_args()
    words = [str(args.script)] if args.script else ["-m", "fedprofile"]
    words = [sys.executable, *words, "train", f"data={args.data}", "baselines=none", "tracking=mlflow", *args.overrides]
    took: list[float] = []
    ratios: list[float] = []
    busy: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FEDPROFILE_HOME": home, "OMP_NUM_THREADS": "1"}
        for run in range(args.runs + 1):
            imports, cpu = reference(environment)
            stages = first_round([*words, f"run.dir={home}/{run}"], environment)
            if run:
                took.append(stages[FIRST])
                ratios.append(stages[FIRST] / imports)
                busy.append(stages[CPU] / cpu)
            label = f"run {run}" if run else "empty store"
            print(
                f"{label}: imports {imports:.2f} (processor {cpu:.2f}) |",
                *(f"{s} {v:.2f}" for s, v in stages.items()),
                flush=True,
            )
    for name, values in (("seconds", took), ("ratio to imports", ratios), ("ratio, processor", busy)):
        print(f"{name:18} {min(values):.2f} {statistics.median(values):.2f} {max(values):.2f}")


if __name__ == "__main__":
    main()
