"""Bars that half of the clean models ask for; false alarms of the shipped bars on the other half, and their power.

python experiments/backdoors/judge.py [--out outputs/backdoors]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plant import BEYOND, STRENGTHS
from scipy.stats import binomtest

from fedprofile.registry.gating import read_gate_settings

HERE = Path(__file__).parent
BEGIN, END = "<!-- result:begin -->", "<!-- result:end -->"
FLAGS = ("flag_inputs", "flag_trunk", "flag_partners")
ANY = "any flag"
LEAST = STRENGTHS["weak"].success
AIM = 0.04  # joint false alarms of the half that chooses; below the 5 % that the other half is held to
Model = dict[str, Any]
Bars = Mapping[str, float]


def choose(clean: list[Model]) -> dict[str, float]:
    """Per flag the same rank among clean models, as low as joint false alarms of at most AIM allow."""
    bars: dict[str, float] = {}
    for rank in range(len(clean)):
        lower = {f: _rounded_up(sorted((m["flags"][f] for m in clean), reverse=True)[rank]) for f in FLAGS}
        if sum(raised(m, lower)[ANY] for m in clean) > AIM * len(clean):
            break
        bars = lower
    return bars


def raised(model: Model, bars: Bars) -> dict[str, bool]:
    """Which flags a model raises: a value above the bar, as the gate judges."""
    each = {f: model["flags"][f] > bars[f] for f in FLAGS}
    return each | {ANY: any(each.values())}


def share(models: Iterable[Model], bars: Bars) -> dict[str, dict[str, Any]]:
    """flag -> {flagged, of, share, low, high}: the exact 95 % interval (Clopper and Pearson 1934)."""
    models, out = list(models), {}
    for name in (*FLAGS, ANY):
        k, n = sum(raised(m, bars)[name] for m in models), len(models)
        ends = binomtest(k, n).proportion_ci(0.95, "exact") if n else None
        out[name] = {"flagged": k, "of": n, "share": k / n if n else None}
        out[name] |= {"low": float(ends.low), "high": float(ends.high)} if ends is not None else {}
    return out


def _rounded_up(value: float) -> float:
    digits = 10 ** (2 - math.floor(math.log10(abs(value)))) if value else 1
    return math.ceil(value * digits) / digits


def _half(clean: list[Model], which: int) -> list[Model]:
    # data sets alternate by index, so both halves hold as many of each
    return [m for m in clean if m["index"] // 2 % 2 == which]


def result(models: list[Model]) -> dict[str, Any]:
    clean = [m for m in models if m["kind"] == "clean"]
    asked, shipped = choose(_half(clean, 0)), read_gate_settings().bars
    bars = {f: shipped[f].value for f in FLAGS}
    tried = [m for m in models if m["kind"] != "clean"]
    groups: dict[str, list[Model]] = {
        "clean, asked for the bars": _half(clean, 0),
        "clean, held out": _half(clean, 1),
    }
    groups |= {f"clean, held out, {d}": [m for m in _half(clean, 1) if m["data"] == d] for d in ("nhanes", "k401")}
    strengths = tuple(dict.fromkeys(m["strength"] for m in tried))
    kinds = tuple(dict.fromkeys(m["kind"] for m in tried))
    for s in strengths:
        groups[s] = [m for m in tried if m["strength"] == s and m["planted"] and m["kind"] not in BEYOND]
        groups |= {f"{s}, {k}": [m for m in groups[s] if m["kind"] == k] for k in kinds if k not in BEYOND}
    groups |= {f"{k} (apart)": [m for m in tried if m["kind"] == k and m["success"] >= LEAST] for k in BEYOND}
    planting = {
        f"{s}, {k}": {
            "tried": len(of),
            "planted": sum(m["planted"] for m in of),
            "mean_success": sum(m["success"] for m in of) / len(of),
            "mean_auc": sum(m["auc"] for m in of) / len(of),
        }
        for s in strengths
        for k in kinds
        if (of := [m for m in tried if (m["strength"], m["kind"]) == (s, k)])
    }
    shares = {name: share(of, bars) for name, of in groups.items() if of}
    return {
        "bars": bars,
        "asked": asked,
        "planting": planting,
        "shares": shares,
        "clean_auc": sum(m["auc"] for m in clean) / len(clean),
    }


def table(found: Mapping[str, Any]) -> str:
    names = [*FLAGS, ANY]
    said = (f"`{f}` {b:g} (the clean half asks for {found['asked'][f]:g})" for f, b in found["bars"].items())
    lines = [f"Shipped bars: {', '.join(said)}.", ""]
    lines += [
        f"| models | n | {' | '.join(f'`{n}`' if n != ANY else n for n in names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for group, by_flag in found["shares"].items():
        cells = [f"{c['share']:.0%} [{c['low']:.0%}, {c['high']:.0%}]" for c in (by_flag[n] for n in names)]
        lines.append(f"| {group} | {by_flag[ANY]['of']} | {' | '.join(cells)} |")
    lines += ["", "| attack | tried | planted | mean success | mean AUC of the best tier |", "|---|---|---|---|---|"]
    for name, p in found["planting"].items():
        lines.append(f"| {name} | {p['tried']} | {p['planted']} | {p['mean_success']:.0%} | {p['mean_auc']:.3f} |")
    lines.append(f"| none (clean models) | | | | {found['clean_auc']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/backdoors"))
    args = parser.parse_args()
    models = [json.loads(line) for line in (args.out / "models.jsonl").read_text().splitlines()]
    found = result(models)
    (HERE / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    readme = HERE / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
