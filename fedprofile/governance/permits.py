"""A row is read only through a permit.

A permit is a live consent for this purpose and, for joint models, the second authorisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Use = Literal["alignment", "training", "label_release", "score"]


class Permit(Protocol):
    """Decides, per customer, whether a row may be read for a use at a time."""

    def allowed(self, subjects: npt.NDArray[np.str_], use: Use, at: datetime) -> npt.NDArray[np.bool_]:
        """(n,) bool for normalised ids (n,)."""
        ...


@dataclass(frozen=True)
class SimulatedPermit:
    """Everybody consents. Only for ``consent=simulated``, which the report states."""

    def allowed(self, subjects: npt.NDArray[np.str_], use: Use, at: datetime) -> npt.NDArray[np.bool_]:
        return np.ones(len(subjects), dtype=np.bool_)


def permit_named(name: str) -> Permit:
    """The permit a node's own configuration names; only ``simulated`` exists until the consent ledger lands."""
    if name == "simulated":
        return SimulatedPermit()
    from fedprofile.errors import ConfigError

    raise ConfigError("federation.consent", f"unknown consent source {name!r}", "Use 'simulated'.")
