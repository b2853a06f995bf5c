"""fedprofile: federated customer profiles for finance. Importing this pulls in neither torch, flwr nor mlflow."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedprofile.simulation.job import Result

__all__ = ["score", "train"]


def train(config: Any = None) -> Result:
    """Run one federated training in this process; the same as ``fedprofile train``.

    ``config`` is a list of Hydra overrides (``["data=nhanes", "seed=1"]``), a resolved
    ``fedprofile.config.schema.Config``, or None for the default job.
    Raises ``fedprofile.errors.FedprofileError`` subclasses for a caller's mistake.
    """
    from fedprofile.simulation.job import train as run

    return run(config)


def score(bundle: str | PathLike[str], source: str | PathLike[str], output: str | PathLike[str]) -> dict[str, Any]:
    """Score a file of customers; the same as ``fedprofile score BUNDLE IN OUT``, and ``output`` must not exist.

    Returns rows, out, tasks, and whether the scores are "fused" or of the "bank alone".
    Raises ``fedprofile.errors.FedprofileError`` subclasses for a caller's mistake, before anything is written.
    """
    from pathlib import Path

    from fedprofile.registry.batch import score_file

    return score_file(Path(bundle), Path(source), Path(output))
