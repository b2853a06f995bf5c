"""What may follow what: one table for each profile and side. An event that a table does not hold is refused.

Both sides run one set-up at a time and, inside it, one machine for each (kind, scope) that is summed.
The profile "none" follows the strict tables, and so does every score sum.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar


class State(Enum):
    """A set-up, at a node and at the coordinator."""

    IDLE = "idle"
    ADVERTISED = "advertised"
    OPENED = "opened"
    READY = "ready"
    CLOSED = "closed"


class Sum(Enum):
    """One sum: the first six at a node, the last three at the coordinator."""

    NONE = "none"
    ASKED = "asked"
    SENT = "sent"
    AGREED = "agreed"
    REVEALED = "revealed"
    OPENED = "opened"
    COLLECTING = "collecting"
    AGREEING = "agreeing"
    REVEALING = "revealing"


_S = TypeVar("_S", State, Sum)
Table = dict[tuple[_S, str], _S]

SETUP_AT_NODE: Table[State] = {
    (State.IDLE, "SetupReq"): State.ADVERTISED,
    (State.ADVERTISED, "SetupReq"): State.ADVERTISED,
    (State.OPENED, "SetupReq"): State.ADVERTISED,
    (State.READY, "SetupReq"): State.ADVERTISED,
    (State.ADVERTISED, "KeyBundle"): State.OPENED,
    (State.OPENED, "OpenBundle"): State.READY,
}

SETUP_AT_COORDINATOR: Table[State] = {
    (State.IDLE, "SetupReq"): State.ADVERTISED,
    (State.ADVERTISED, "SetupReq"): State.ADVERTISED,
    (State.OPENED, "SetupReq"): State.ADVERTISED,
    (State.READY, "SetupReq"): State.ADVERTISED,
    (State.ADVERTISED, "KeyBundle"): State.OPENED,
    (State.OPENED, "KeyBundle"): State.OPENED,
    (State.OPENED, "OpenBundle"): State.READY,
    (State.READY, "Round"): State.READY,
}

# a Round of the t in hand is a Retry; what a node has agreed to or revealed is final for its t, and asked again
# for the same set it gives the same bytes
STRICT_AT_NODE: Table[Sum] = {
    (Sum.NONE, "Round"): Sum.ASKED,
    (Sum.ASKED, "Round"): Sum.ASKED,
    (Sum.SENT, "Round"): Sum.ASKED,
    (Sum.OPENED, "Round"): Sum.ASKED,
    (Sum.ASKED, "Retry"): Sum.ASKED,
    (Sum.SENT, "Retry"): Sum.ASKED,
    (Sum.OPENED, "Retry"): Sum.ASKED,
    (Sum.ASKED, "Upload"): Sum.SENT,
    (Sum.ASKED, "MaskedSum"): Sum.OPENED,
}

RESILIENT_AT_NODE: Table[Sum] = {
    (Sum.NONE, "Round"): Sum.ASKED,
    (Sum.ASKED, "Round"): Sum.ASKED,
    (Sum.SENT, "Round"): Sum.ASKED,
    (Sum.AGREED, "Round"): Sum.ASKED,
    (Sum.REVEALED, "Round"): Sum.ASKED,
    (Sum.ASKED, "Retry"): Sum.ASKED,
    (Sum.SENT, "Retry"): Sum.ASKED,
    (Sum.ASKED, "Upload"): Sum.SENT,
    (Sum.SENT, "Survivors"): Sum.AGREED,
    (Sum.AGREED, "Survivors"): Sum.AGREED,
    (Sum.SENT, "Open"): Sum.REVEALED,
    (Sum.AGREED, "Open"): Sum.REVEALED,
    (Sum.REVEALED, "Open"): Sum.REVEALED,
}

STRICT_AT_COORDINATOR: Table[Sum] = {
    (Sum.COLLECTING, "Upload"): Sum.COLLECTING,
    (Sum.COLLECTING, "open"): Sum.OPENED,
}

RESILIENT_AT_COORDINATOR: Table[Sum] = {
    (Sum.COLLECTING, "Upload"): Sum.COLLECTING,
    (Sum.COLLECTING, "Survivors"): Sum.AGREEING,
    (Sum.AGREEING, "Agree"): Sum.AGREEING,
    (Sum.COLLECTING, "Open"): Sum.REVEALING,
    (Sum.AGREEING, "Open"): Sum.REVEALING,
    (Sum.REVEALING, "Reveal"): Sum.REVEALING,
    (Sum.REVEALING, "open"): Sum.OPENED,
}

# why a node refuses what its table does not hold
AT_NODE: dict[Sum, str] = {
    Sum.NONE: "not_verified",
    Sum.ASKED: "not_uploaded",
    Sum.SENT: "already_contributed",
    Sum.AGREED: "agreed_before",
    Sum.REVEALED: "revealed_before",
    Sum.OPENED: "already_contributed",
}
