"""Which trained weights this node lets a new run begin from: those alone that its own key has signed the hash of.

Crafted first weights would turn a sum into rows of one node (Fowl et al. 2022), so a plan's start is a claim: a node
approves it only where it knows those very weights, and takes no others in round 1. It knows what it has worked out
itself: the last shared model of a run that it finished, recomputed from the plan's first one and all signed uploads.
"""

from __future__ import annotations

import json

from fedprofile.errors import ProtocolError, UsageError
from fedprofile.node.home import NodeHome
from fedprofile.node.policy import write_json
from fedprofile.secagg.identity import Identity, verify
from fedprofile.types import canonical

FILE = "starts.json"
_SIGNED = "starts"


def trust_start(home: NodeHome, start: bytes) -> None:
    """Sign and keep the hash of weights (``layout.start_hash``) that runs may begin from."""
    hashes = sorted({*trusted_starts(home), start.hex()})
    signature = Identity.from_seed(home.derive("identity")).sign(_SIGNED, canonical(hashes))
    write_json(home.path / FILE, {"starts": hashes, "signature": signature.hex()})


def trusted_starts(home: NodeHome) -> frozenset[str]:
    """Hexadecimal hashes. Raises UsageError for a file that this node did not sign as it is."""
    path, identity = home.path / FILE, Identity.from_seed(home.derive("identity"))
    try:
        held = json.loads(path.read_text())
        verify(identity.sign_pk, _SIGNED, canonical(held["starts"]), bytes.fromhex(held["signature"]))
        return frozenset(held["starts"])
    except FileNotFoundError:
        return frozenset()
    except (ProtocolError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} was changed by somebody else", "Find out who; remove it: no start is known."
        ) from None
