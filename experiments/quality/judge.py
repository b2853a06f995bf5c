"""Judge the runs that run.py left: means over folds, paired bootstrap differences, each against its bar.

    python experiments/quality/judge.py [--out outputs/quality]

Differences are bootstrapped within each fold (paired, 500 draws) and combined as independent folds.
Prints Markdown; README.md holds the table of the last full run.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fedprofile.models.metrics import paired_difference

DRAWS = 500


class Cell:
    """One cell: reports and test predictions by fold."""

    def __init__(self, out: Path, name: str) -> None:
        self.name = name
        folders = sorted(p.parent for p in (out / name).glob("*/report.json"))
        self.reports = {f.name: json.loads((f / "report.json").read_text()) for f in folders}
        self.rows = {f.name: pl.read_parquet(f / "predictions.parquet").sort("pseudonym") for f in folders}

    def auc(self, task: str, model: str = "federated") -> float:
        """Mean over folds."""
        return float(np.mean([r["tasks"][task]["models"][model]["auc"] for r in self.reports.values()]))

    def probabilities(self, fold: str, task: str, model: str) -> Any:
        rows = self.rows[fold]
        return rows.select(sorted(c for c in rows.columns if c.startswith(f"{task}.{model}.p"))).to_numpy()

    def minus(self, task: str, a: str, other: Cell, b: str, covered: bool = False) -> tuple[float, float, float]:
        """AUC of this cell's model a minus the other's b on the same test customers: mean over folds, 95 % interval."""
        means, variances = [], []
        for fold in self.reports.keys() & other.reports.keys():
            rows = self.rows[fold]
            assert rows["pseudonym"].equals(other.rows[fold]["pseudonym"])
            y = rows[f"{task}.label"].to_numpy()
            keep = (y >= 0) & (rows["covered"].to_numpy() if covered else True)
            pa, pb = self.probabilities(fold, task, a)[keep], other.probabilities(fold, task, b)[keep]
            found = paired_difference(y[keep], pa, pb, DRAWS)["auc"]
            if found is None:
                continue
            means.append(found["difference"])
            variances.append(((found["high"] - found["low"]) / 3.92) ** 2)
        mean, half = float(np.mean(means)), 1.96 * math.sqrt(sum(variances)) / len(variances)
        return mean, mean - half, mean + half

    def closed(self, task: str) -> float | None:
        """(federated - bank) / (better pooled - bank), on means over folds; validation chose the pooled model."""
        bank, federated = self.auc(task, "bank_alone"), self.auc(task)
        pooled = np.mean(
            [t["models"][t["best_pooled"]]["auc"] for t in (r["tasks"][task] for r in self.reports.values())]
        )
        return None if pooled - bank < 0.01 else (federated - bank) / float(pooled - bank)


def line(what: str, measured: str, bar: str, ok: bool) -> None:
    print(f"| {what} | {measured} | {bar} | {'reached' if ok else '**missed**'} |")


def interval(found: tuple[float, float, float]) -> str:
    return "{:+.4f} [{:+.4f}, {:+.4f}]".format(*found)


def at_least(cell: Cell, task: str, bar: float) -> None:
    auc = cell.auc(task)
    line(f"{cell.name} {task}: federated AUC", f"{auc:.4f}", f"≥ {bar}", auc >= bar)


def inside_role(cell: Cell, networks: Cell, task: str, gain: float, near: float) -> None:
    over = cell.minus(task, "federated", cell, "members_alone")
    line(f"{cell.name} {task}: federated − members alone", interval(over), f"≥ +{gain}", over[0] >= gain)
    whole = cell.minus(task, "federated", networks, "federated")
    line(f"{cell.name} {task}: − one member a role (networks)", interval(whole), f"≥ −{near}", whole[0] >= -near)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/quality"))
    out = parser.parse_args().out
    cell = {p.name: Cell(out, p.name) for p in sorted(out.iterdir()) if p.name != "home"}
    folds = {n: len(c.reports) for n, c in cell.items()}
    print(f"Folds a cell: {folds}\n\n| measure | mean over folds | bar | |\n|---|---|---|---|")
    for name, task, bar in (
        ("scf2019", "tier", 0.957), ("scf2019", "invest", 0.890), ("k401", "tier", 0.757), ("k401", "ira", 0.770)
    ):  # fmt: skip
        at_least(cell[name], task, bar)
    gaps = {}
    for name, tasks in (
        ("scf2019", ("tier", "invest", "lifeins")),
        ("k401", ("tier", "ira")),
        ("nhanes", ("tier", "uninsured")),
    ):
        for task in tasks:
            if (closed := cell[name].closed(task)) is not None:
                gaps[f"{name} {task}"] = closed
    detail = ", ".join(f"{n} {v:.2f}" for n, v in gaps.items())
    mean = float(np.mean(list(gaps.values())))
    line(f"gap closed ({detail})", f"{mean:.3f}", "≥ .88", mean >= 0.88)
    inside_role(cell["scf2019-members4"], cell["scf2019-networks"], "tier", 0.003, 0.003)
    inside_role(cell["k401-members4"], cell["k401-networks"], "ira", 0.002, 0.003)
    inside_role(cell["nhanes-members3"], cell["nhanes-networks"], "tier", 0.007, 0.006)
    inside_role(cell["nhanes-members3"], cell["nhanes-networks"], "uninsured", 0.005, 0.006)
    for name, c in cell.items():
        for task in next(iter(c.reports.values()))["tasks"]:
            over = c.minus(task, "federated", c, "bank_alone")
            line(f"{name} {task}: federated − bank alone", interval(over), "not significantly below", over[2] >= 0)
    for name in ("scf2019-overlap40", "scf2019-overlap10"):
        for task in ("tier", "invest", "lifeins"):
            over = cell[name].minus(task, "federated", cell[name], "bank_alone", covered=True)
            line(f"{name} {task}: same, customers with ≥ 2 views", interval(over), "above", over[0] > 0)


if __name__ == "__main__":
    main()
