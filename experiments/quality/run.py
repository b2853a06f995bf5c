"""Run the quality study: every cell on every fold, two at a time; finished runs are kept and not run again.

    python experiments/quality/run.py --scf DIR [--out outputs/quality] [--only CELL ...] [--folds 0 1 ...]

Then ``python experiments/quality/judge.py`` makes the table of README.md from what was left.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cells import COMMON, FOLDS, cells


def train(name: str, fold: int, overrides: tuple[str, ...], out: Path) -> str:
    """One run in a process of its own; returns a line about it."""
    folder = out / name / str(fold)
    if (folder / "report.json").exists():
        return f"{name}/{fold}: kept"
    command = [sys.executable, "-m", "fedprofile", "train", "-q", *overrides, *COMMON]
    resume = ["--resume", str(folder)]
    fresh = [f"data.fold={fold}", f"run.dir={folder}"]
    words = [*command[:5], *resume] if folder.exists() else [*command, *fresh]
    start = time.perf_counter()
    environment = {**os.environ, "FEDPROFILE_HOME": str(out / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{name}/{fold}: FAILED\n{done.stderr[-2000:]}"
    return f"{name}/{fold}: {time.perf_counter() - start:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scf", type=Path, required=True, help="federation folder of scf2019")
    parser.add_argument("--out", type=Path, default=Path("outputs/quality"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--folds", nargs="*", type=int, default=list(FOLDS))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    out = args.out.absolute()
    chosen = {n: o for n, o in cells(args.scf.absolute()).items() if not args.only or n in args.only}
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = [pool.submit(train, n, f, o, out) for f in args.folds for n, o in chosen.items()]
        for run in runs:
            print(run.result(), flush=True)


if __name__ == "__main__":
    main()
