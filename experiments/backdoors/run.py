"""Train clean models and models with planted backdoors, scan each, append a line a model; what is there is kept.

    OMP_NUM_THREADS=1 nice -n 10 python experiments/backdoors/run.py [--out DIR] [--clean 200] [--planted 50]

Then ``python experiments/backdoors/judge.py`` chooses the bars and makes the table of README.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from owner import Owned, fit_bank, own
from plant import BEYOND, PLANTS, STRENGTHS
from sklearn.metrics import roc_auc_score
from world import TARGET, draw, federate

from fedprofile.registry.redflags import flag_measures

DATA = ("nhanes", "k401")
CLEAN_SEED, PLANTED_SEED = 0, 3000  # the scans were developed on planted models of 1000 to 1299


def flags(owned: Owned) -> dict[str, float]:
    """gate -> its largest value over tasks."""
    found: dict[str, float] = {}
    for measure in flag_measures(owned.bundle, owned.held, 0):
        if measure.value is not None:
            found[measure.gate] = max(found.get(measure.gate, -np.inf), measure.value)
    return found


def auc(owned: Owned) -> float:
    """Of the best tier against the others, on test customers."""
    held = owned.held
    p = owned.bundle.score(held.data.table, held.sums.astype(float), held.data.known.astype(float))[TARGET]
    rows = held.test(TARGET)
    return float(roc_auc_score(held.data.labels[TARGET][rows] == p.shape[1] - 1, p[rows, -1]))


def clean(index: int) -> Iterator[dict[str, Any]]:
    world = draw(DATA[index % 2], CLEAN_SEED + index)
    trained = federate(world)
    bank = fit_bank(world, world.owner.table, world.labels)
    owned = own(trained, bank, trained.sums(), world.owner.table, world.labels)
    yield {"kind": "clean", "strength": "", "data": world.data, "auc": auc(owned), "flags": flags(owned)}


def planted(kind: str, index: int, strengths: Iterable[str] = STRENGTHS) -> Iterator[dict[str, Any]]:
    """One federation, attacked at every strength in turn."""
    plants = PLANTS | BEYOND
    data, seed = DATA[index % 2], PLANTED_SEED + 100 * list(plants).index(kind) + index
    world = draw(data, seed)
    trained, bank = federate(world), fit_bank(world, world.owner.table, world.labels)
    for strength in strengths:
        how = STRENGTHS[strength]
        owned, success = plants[kind](trained, bank, how, np.random.default_rng(seed))
        said = {"success": success, "planted": success >= how.success, "auc": auc(owned), "flags": flags(owned)}
        yield {"kind": kind, "strength": strength, "data": data, **said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/backdoors"))
    parser.add_argument("--clean", type=int, default=200)
    parser.add_argument("--planted", type=int, default=50, help="of each strength, split over the kinds")
    parser.add_argument("--beyond", type=int, default=12, help="of each kind that the scans were not made for")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "models.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(line["kind"], line["index"]) for line in lines}
    have = Counter((line["kind"], line["strength"]) for line in lines if line.get("planted"))

    def keep(kind: str, index: int, models: Iterator[dict[str, Any]]) -> None:
        start, made = time.process_time(), [line | {"index": index} for line in models]
        done.add((kind, index))
        have.update((line["kind"], line["strength"]) for line in made if line.get("planted"))
        with file.open("a") as out:
            out.writelines(json.dumps(line) + "\n" for line in made)
        print(f"{kind} {index}: {time.process_time() - start:.1f} s of CPU", flush=True)

    for index in range(args.clean):
        if ("clean", index) not in done:
            keep("clean", index, clean(index))
    quotas = {kind: args.planted // 3 + (i < args.planted % 3) for i, kind in enumerate(PLANTS)}
    for kind, quota in quotas.items():
        for index in range(quota + quota // 4):  # an attack that fails is tried again on other customers, and counted
            if (kind, index) not in done and min(have[kind, s] for s in STRENGTHS) < quota:
                keep(kind, index, planted(kind, index))
    for index in count():  # what a kind could not plant, the first makes up
        if min(sum(have[kind, s] for kind in PLANTS) for s in STRENGTHS) >= args.planted:
            break
        if ("score", index) not in done:
            keep("score", index, planted("score", index))
    for kind in BEYOND:
        for index in range(args.beyond):
            if (kind, index) not in done:
                keep(kind, index, planted(kind, index, ["strong"]))


if __name__ == "__main__":
    main()
