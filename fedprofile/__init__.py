"""fedprofile: federated customer profiles for finance. Importing this pulls in neither torch, flwr nor mlflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedprofile.simulation.job import Result

__all__ = ["train"]


def train(config: Any = None) -> Result:
    """Run one federated training in this process; the same as ``fedprofile train``.

    ``config`` is a list of Hydra overrides (``["data=nhanes", "seed=1"]``), a resolved
    ``fedprofile.config.schema.Config``, or None for the default job.
    Raises ``fedprofile.errors.FedprofileError`` subclasses for a caller's mistake.
    """
    from fedprofile.simulation.job import train as run

    return run(config)
