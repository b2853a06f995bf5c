"""From uploads to opened sums: at once in the strict profile; resilient, by survivors, agreement and shares."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TypeVar

from fedprofile.coordinator.talk import Talk
from fedprofile.errors import ProtocolError
from fedprofile.messages import Envelope
from fedprofile.secagg.resilient_server import ResilientServer
from fedprofile.secagg.server import ServerSession
from fedprofile.types import Opened, RoundId

TOO_FEW = frozenset({"too_few_survivors", "too_few_hidden", "too_few_signatures", "missing_member"})
T = TypeVar("T")
ByParty = Mapping[str, bytes]
Ask = Callable[[dict[str, Envelope], bool], Talk]
Opening = Generator[dict[str, bytes], dict[str, bytes], dict[RoundId, Opened]]
Keep = Callable[[tuple[bytes, ...]], None]


def open_sums(session: ServerSession, ask: Ask, uploads: Mapping[RoundId, ByParty], keep: Keep) -> Opening:
    """The sums of one t, by round id. Raises the ProtocolError of a sum over all roles that does not open.

    In the resilient profile a role's sum that too few take part in is left out, and nothing of it is released;
    ``keep`` gets what ``reopen_sums`` needs, before each question that a node answers for one set only.
    """
    if not isinstance(session, ResilientServer):
        return {id: session.open(id, dict(sent)) for id, sent in uploads.items()}
    for id, sent in uploads.items():
        for party, upload in sent.items():
            session.add(id, party, upload)
    return (yield from _settle(session, ask, list(_of_each(uploads, session.survivors)), keep))


def reopen_sums(session: ResilientServer, ask: Ask, held: Sequence[bytes], keep: Keep) -> Opening:
    """As ``open_sums``, from what it kept: over the same sets, under the keys that the nodes still hold."""
    return (yield from _settle(session, ask, [session.resume(sum) for sum in held], keep))


def _settle(session: ResilientServer, ask: Ask, ids: Iterable[RoundId], keep: Keep) -> Opening:
    keep(tuple(map(session.suspend, ids)))
    questions = {id: asked for id in ids if (asked := session.questions(id))}
    for id, replies in (yield from _exchange(ask, "survivors", questions)).items():
        for party, reply in replies.items():
            session.agree(id, party, reply)
    requests = _of_each(ids, session.requests)
    if requests:
        keep(tuple(map(session.suspend, requests)))
    for id, replies in (yield from _exchange(ask, "open", requests)).items():
        for party, reply in replies.items():
            session.reveal(id, party, reply)
    return _of_each(requests, session.open)


def _of_each(ids: Iterable[RoundId], step: Callable[[RoundId], T]) -> dict[RoundId, T]:
    """The step of each sum; a role's sum for which too few are left falls out."""
    done = {}
    for id in ids:
        try:
            done[id] = step(id)
        except ProtocolError as error:
            if not id.scope or error.code not in TOO_FEW:
                raise
    return done


def _exchange(
    ask: Ask, type_: str, messages: Mapping[RoundId, ByParty]
) -> Generator[dict[str, bytes], dict[str, bytes], dict[RoundId, dict[str, bytes]]]:
    """One envelope a party with a part for each sum it is in; what came back, by sum."""
    back: dict[RoundId, dict[str, bytes]] = {id: {} for id in messages}
    parties = dict.fromkeys(p for by_party in messages.values() for p in by_party)
    if not parties:
        return back
    ids = {p: [id for id, by_party in messages.items() if p in by_party] for p in parties}
    replies = yield from ask({p: Envelope(type_, parts=tuple(messages[id][p] for id in ids[p])) for p in parties}, True)
    for party, reply in replies.items():
        for id, part in zip(ids[party], reply.parts, strict=True):
            back[id][party] = part
    return back
