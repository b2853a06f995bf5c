"""The stage in which customers are brought into one order; the coordinator carries letters that it cannot open."""

from __future__ import annotations

from collections.abc import Callable, Generator

from fedprofile.alignment.letters import SpineFact
from fedprofile.coordinator.talk import Talk
from fedprofile.errors import NodeFailed, RemoteProtocolError
from fedprofile.messages import Envelope
from fedprofile.types import Roster, RunPlan

Ask = Callable[[dict[str, Envelope]], Talk]


def align(ask: Ask, plan: RunPlan, roster: Roster) -> Generator[dict[str, bytes], dict[str, bytes], SpineFact]:
    """Points of each partner, the label owner's spine and answers, claims, views: the spine, once all nodes hold it.

    Where it is simulated every node has its own already, and the label owner signs which one counts.
    Raises NodeFailed("bad_spine") naming the label owner where its signature does not fit.
    """
    owner, simulated = roster.label_owner, plan.align == "simulated"
    partners = [p.id for p in roster.parties if p.id != owner]
    points = {} if simulated else (yield from ask({p: Envelope("align") for p in partners}))
    asked = tuple(points[p].parts[0] for p in partners) if points else ()
    spine = (yield from ask({owner: Envelope("align-spine", parts=asked)}))[owner]
    signature, *answers = spine.parts
    try:
        fact = SpineFact.verified(spine.body, signature, plan.hash, roster.party(owner))
    except RemoteProtocolError:
        raise NodeFailed(owner, "bad_spine") from None
    if simulated:
        yield from ask({p: Envelope("align-store", spine.body, (signature,)) for p in partners})
        return fact
    sealed = zip(partners, answers, strict=True)
    claims = yield from ask({p: Envelope("align-match", spine.body, (signature, answer)) for p, answer in sealed})
    request = Envelope("align-views", parts=tuple(claims[p].parts[0] for p in partners))
    views = (yield from ask({owner: request}))[owner]
    yield from ask({p: Envelope("align-store", parts=(v,)) for p, v in zip(partners, views.parts, strict=True)})
    return fact
