"""The cells of the quality study: which runs, with which overrides. Five folds each."""

from __future__ import annotations

from pathlib import Path

FOLDS = range(5)
# how ids meet changes only the dither: a node keeps its rows by a hash of the id
COMMON = ("tracking=none", "seed=0", "align=simulated", "federation.workers=1", "baselines.gain_by_partner=false")
ONE = ("federation.members=1",)
NETWORKS = ("learning.trees=never", "baselines=none")


def cells(scf: Path) -> dict[str, tuple[str, ...]]:
    """Name -> overrides; ``scf`` is the federation folder of scf2019."""
    folder = ("data=folder", f"data.root={scf}")
    return {
        "scf2019": (*folder, *ONE),
        "k401": ("data=k401", *ONE),
        "nhanes": ("data=nhanes", *ONE),
        "scf2019-members4": (*folder, "federation.members=4"),
        "k401-members4": ("data=k401", "federation.members=4"),
        "nhanes-members3": ("data=nhanes", "federation.members=3"),
        "scf2019-networks": (*folder, *ONE, *NETWORKS, "learning.rounds=20", "learning.steps=20"),
        "k401-networks": ("data=k401", *ONE, *NETWORKS, "learning.rounds=20", "learning.steps=20"),
        "nhanes-networks": ("data=nhanes", *ONE, *NETWORKS, "learning.rounds=20", "learning.steps=20"),
        "scf2019-overlap40": (*folder, *ONE, "federation.overlap=0.4", "baselines=none"),
        "scf2019-overlap10": (*folder, *ONE, "federation.overlap=0.1", "baselines=none"),
    }
