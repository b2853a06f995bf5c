"""The union of all customers: lists go round the ring in sealed letters; the coordinator sees names of nobody it knows.

It learns which random names are on whose list, and keeps of that which slots the label owner may open, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
import numpy.typing as npt

from fedprofile.alignment.letters import SpineFact, verified_size
from fedprofile.alignment.psi import split, write_views
from fedprofile.alignment.union import NAME, SHARES, spine_hash, unite
from fedprofile.coordinator.talk import Talk
from fedprofile.errors import NodeFailed, RemoteProtocolError
from fedprofile.messages import Envelope
from fedprofile.secagg.encoding import vectors
from fedprofile.secagg.round_messages import MaskedSum, Round
from fedprofile.types import Roster, RunPlan

Ask = Callable[[dict[str, Envelope]], Talk]
Mask = npt.NDArray[np.bool_]
United = Generator[dict[str, bytes], dict[str, bytes], tuple[SpineFact, Mask]]


def unite_all(ask: Ask, plan: RunPlan, roster: Roster) -> United:
    """Sizes, n times round the ring, names, the union: its size and hash, and the slots whose sums may be passed on.

    Raises NodeFailed (bad_size, bad_names) naming the node.
    """
    ring = [p.id for p in roster.parties]
    listed = yield from ask(dict.fromkeys(ring, Envelope("unite")))
    sizes = {p: _checked(p, listed[p], plan, roster) for p in ring}
    signatures = tuple(listed[p].parts[0] for p in ring)
    letters = yield from ask(dict.fromkeys(ring, Envelope("unite-blind", dict(sizes), signatures)))
    for _ in ring[1:]:
        letters = yield from ask(_onwards(ring, letters, "unite-mask"))
    named = yield from ask(_onwards(ring, letters, "unite-name"))
    lists = {p: _names(p, named[p].parts[0], sizes[p]) for p in ring}
    union = unite(lists, roster.label_owner, plan.min_views)
    fact = SpineFact(union.size, spine_hash(union.spine, plan.hash))
    told = {p: {"size": union.size, "share": union.shares.get(p, SHARES)} for p in ring}
    yield from ask({p: Envelope("unite-store", body, (union.spine,)) for p, body in told.items()})
    return fact, union.passed


def _onwards(ring: list[str], letters: dict[str, Envelope], type_: str) -> dict[str, Envelope]:
    """Each party's letter to the one after it in the ring."""
    before = zip(ring, ring[-1:] + ring[:-1], strict=True)
    return {p: Envelope(type_, parts=letters[b].parts) for p, b in before}


def _checked(party: str, reply: Envelope, plan: RunPlan, roster: Roster) -> int:
    try:
        return verified_size(reply.body["size"], reply.parts[0], plan.hash, roster.party(party))
    except RemoteProtocolError:
        raise NodeFailed(party, "bad_size") from None


def _names(party: str, data: bytes, size: int) -> list[bytes]:
    if len(data) != size * NAME or len(set(split(data, NAME))) != size:
        raise NodeFailed(party, "bad_names")
    return split(data, NAME)


def pass_on(request: bytes, total: bytes, passed: Mask, roster: Roster) -> tuple[bytes, bytes, bytes]:
    """What the label owner gets of a score sum: nothing of any slot but those that ``passed``, and which they are."""
    round = Round.decode(request, roster)
    held = MaskedSum.decode(total, roster)
    y = bytearray(held.y)
    for vector in vectors(y, round.layout).values():
        vector.reshape(len(passed), -1)[~passed] = 0
    return request, MaskedSum(held.id, held.h, y).encode(), write_views(passed)
