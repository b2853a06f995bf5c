"""What ``fedprofile node check`` shows: the judged table, live consents, the last alignment. Counts and rates only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from fedprofile.errors import UsageError
from fedprofile.governance.permits import Permit, Use
from fedprofile.node.consent import permit_of
from fedprofile.node.home import NodeHome
from fedprofile.node.intake import Intake
from fedprofile.node.snapshot import read_record
from fedprofile.node.spine import SPINE, read_spine


def table_report(home: Path, intake: Intake) -> dict[str, Any]:
    """intake.json's content, ``ok``, and what the home adds: the last snapshot, consents, the last alignment.

    A folder that is no node's home yet has no consents and no alignment: None.
    """
    node, last = _node(home), read_record(home)
    ids = intake.examined.ids[intake.examined.kept]
    at = datetime.now(UTC)
    return {
        "ok": not intake.stops,
        **intake.to_json(),
        "last": None if last is None else {"read_on": last["read_on"], "rows": last["rows"]["kept"]},
        "consent": None
        if node is None
        else {"source": node.config.consent, **live_consents(ids, permit_of(node, intake.contract.purpose), at)},
        "overlap": _overlap(node),
    }


def live_consents(ids: npt.NDArray[np.str_], permit: Permit, at: datetime) -> dict[str, int]:
    """How many of the customers may be used at this time, by use; ``customers`` is all of them."""
    uses: tuple[Use, ...] = get_args(Use)
    return {"customers": len(ids)} | {use: int(permit.allowed(ids, use, at).sum()) for use in uses}


def _overlap(node: NodeHome | None) -> dict[str, int] | None:
    """Customers of the last run's spine that this node knows, and how many slots the spine has."""
    if node is None or node.read(SPINE) is None:
        return None
    spine = read_spine(node)
    return {"aligned": len(spine.rows), "spine": spine.size}


def _node(home: Path) -> NodeHome | None:
    try:
        return NodeHome(home)
    except UsageError:
        return None
