"""Train champions on half of nhanes, then on all of it from their weights and from new ones, in few and in many rounds.

    python experiments/warmstart/run.py [--out outputs/warmstart] [--seeds 0 1 2] [--jobs 2]

Finished runs are kept and not run again. Writes ``result.json`` beside this file and prints the table of README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

COMMON = ("align=simulated", "secure=none", "baselines=none", "tracking=none", "federation.workers=1")
FULL, CHAMPION = 20, 10
COLD, WARM = (5, 10, FULL), (5, 10)
TASKS, METRICS = ("tier", "uninsured"), ("auc", "log_loss")
RESULT = Path(__file__).with_name("result.json")


def half(root: Path) -> None:
    """The federation folder of the customers whom the champion is trained on: a half of them, drawn by their ids."""
    import hashlib

    import numpy as np

    from fedprofile.data.federation import make_federation
    from fedprofile.data.sources import open_source
    from fedprofile.data.writing import write_folder
    from fedprofile.types import Labels

    whole = open_source("nhanes", None)

    def kept(ids: Any) -> Any:
        return np.array([hashlib.sha256(f"warmstart/{i}".encode()).digest()[0] % 2 == 0 for i in ids])

    tables = {party: table.take(np.flatnonzero(kept(table.ids))) for party, table in whole.tables.items()}
    rows = kept(whole.labels.ids)
    labels = Labels(whole.labels.ids[rows], {name: y[rows] for name, y in whole.labels.values.items()})
    federation = make_federation("nhanes-half", whole.id_column, whole.label_owner, whole.tasks, tables, labels)
    write_folder(federation, root)


def one(folder: Path, seed: int, rounds: int, data: tuple[str, ...], champion: Path | None) -> None:
    """One training in this process, from the trunk and heads of ``champion``'s bundle or from new weights."""
    from fedprofile.registry.bundle import open_bundle
    from fedprofile.simulation.job import train

    start = None if champion is None else dict(open_bundle(champion / "bundle").shared)
    train([*COMMON, *data, f"seed={seed}", f"learning.rounds={rounds}", f"run.dir={folder}"], start=start)


def apart(folder: Path, *words: str) -> None:
    """``one`` in a process of its own, unless the folder holds a finished run."""
    if (folder / "report.json").exists():
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", str(folder), *words]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def study(out: Path, seed: int) -> dict[str, dict[str, Any]]:
    champion = out / f"champion-{seed}"
    apart(champion, str(seed), str(CHAMPION), f"data=folder data.root={out / 'half'} data.members=3")
    arms = {f"cold-{r}": (r, []) for r in COLD} | {f"warm-{r}": (r, [str(champion)]) for r in WARM}
    for name, (rounds, begun) in arms.items():
        apart(out / f"{name}-{seed}", str(seed), str(rounds), "data=nhanes", *begun)
    return {name: measured(out / f"{name}-{seed}") for name in arms}


def measured(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "report.json").read_text())
    found: dict[str, Any] = {"seconds": report["seconds"]["rounds"], "loss": report["learning_curve"]["loss"]}
    for task in TASKS:
        models = report["tasks"][task]["models"]
        found[task] = {metric: models["federated"][metric] for metric in METRICS}
    return found


def table(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Means over seeds, and the difference to the full cold run of the same seed: mean, and its range."""
    head = [f"{task} {metric}, minus cold in {FULL}" for task in TASKS for metric in METRICS]
    lines = [f"| arm, rounds | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    for arm in next(iter(found.values())):
        cells = []
        for task in TASKS:
            for metric in METRICS:
                values = [seed[arm][task][metric] for seed in found.values()]
                minus = [seed[arm][task][metric] - seed[f"cold-{FULL}"][task][metric] for seed in found.values()]
                mean, ends = statistics.mean(minus), f"[{min(minus):+.4f}, {max(minus):+.4f}]"
                cells.append(f"{statistics.mean(values):.4f}, {mean:+.4f} {ends}")
        lines.append(f"| {arm.replace('-', ', ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/warmstart"))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        folder, seed, rounds, data, *champion = args.one
        one(Path(folder), int(seed), int(rounds), tuple(data.split()), Path(champion[0]) if champion else None)
        return
    out = args.out.absolute()
    if not (out / "half").exists():
        half(out / "half")
    with ThreadPoolExecutor(args.jobs) as pool:
        found = dict(zip(map(str, args.seeds), pool.map(lambda seed: study(out, seed), args.seeds), strict=True))
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
