"""A row is read only through a permit.

A permit is a live consent for this purpose and, for joint models, the second authorisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from fedprofile.governance.consents import Spans, Wanted
from fedprofile.governance.ledger import ConsentLedger
from fedprofile.governance.subjects import Subjects, pseudonyms

Use = Literal["own", "alignment", "training", "label_release", "score"]
"""``own``: the holder's own work, of which nothing goes to anybody else. All others feed a joint model."""


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


@dataclass
class LedgerPermit:
    """What the consent ledger allows for ``wanted``. It reads what was appended to the ledger at every question.

    The pseudonyms and spans of the ids that were asked about last are kept, so that the same question costs
    milliseconds until somebody signs or revokes.
    """

    ledger: ConsentLedger
    wanted: Wanted
    _ids: npt.NDArray[np.str_] | None = field(default=None, repr=False)
    _subjects: Subjects | None = field(default=None, repr=False)
    _spans: dict[str, Spans] = field(default_factory=dict, repr=False)
    _lines: int = 0

    def allowed(self, subjects: npt.NDArray[np.str_], use: Use, at: datetime) -> npt.NDArray[np.bool_]:
        """As ``Permit.allowed``. Raises ValueError for a time without a zone, DataError for a broken ledger."""
        if at.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        consents = self.ledger.refresh()
        moment = max(int(at.timestamp() // 1), consents.latest)
        if self._ids is not subjects or self._subjects is None:
            self._ids, self._subjects = subjects, pseudonyms(subjects, self.ledger.subject_key)
            self._spans.clear()
        if self._lines != consents.lines:
            self._spans.clear()
            self._lines = consents.lines
        held = self._held("grant", self._subjects).at(moment, len(subjects))
        if use != "own":
            held &= self._held("authorisation", self._subjects).at(moment, len(subjects))
        return held

    def _held(self, kind: Literal["grant", "authorisation"], subjects: Subjects) -> Spans:
        if kind not in self._spans:
            self._spans[kind] = self.ledger.consents.spans(subjects, kind, self.wanted)
        return self._spans[kind]


def permit_named(name: str, ledger: Callable[[], Permit] | None = None) -> Permit:
    """The permit that a node's own configuration names; ``ledger`` opens the home's consent ledger.

    Raises ConfigError for any other name, and for ``ledger`` where nobody offers one.
    """
    if name == "simulated":
        return SimulatedPermit()
    if name == "ledger" and ledger is not None:
        return ledger()
    from fedprofile.errors import ConfigError

    raise ConfigError("federation.consent", f"unknown consent source {name!r}", "Use 'simulated' or 'ledger'.")
