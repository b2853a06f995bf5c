"""Heads of the others' audit logs, the coordinator's too: what a round is bound to, compared with what they signed.

A Round carries the root over the audit heads of the uploads before it, and every field of a Round is bound into the
masks: nodes that are shown different roots do not unmask. Where uploads are recomputed, a node is handed the signed
uploads of the round before and works the root out itself, so two histories of one log, shown to two partners, or a
head that was shown before (a log that was put back) end the run one round later. Elsewhere it keeps the root alone.

The coordinator shows the head of its own log with each round, and the lines since the one before, in the request's
body. A Round is bound to it as well, and a node goes on only from the head that it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedprofile.errors import RemoteProtocolError
from fedprofile.governance.audit import CoordinatorHead, Heads, heads_root
from fedprofile.governance.audit_coordinator import SHOWN, Shown, bound
from fedprofile.governance.chain import SIGNED_HEAD, START, Head
from fedprofile.node.audit import NodeAudit
from fedprofile.node.membership import audit_key
from fedprofile.node.run import NodeRun
from fedprofile.secagg.codes import remote
from fedprofile.secagg.identity import verify
from fedprofile.secagg.messages import Round, Upload
from fedprofile.secagg.wire import ZERO_HASH


@dataclass(frozen=True)
class Told:
    """One request as the audit log sees it: this node's ``log``, and the ``body`` that the request came with."""

    log: NodeAudit
    body: Mapping[str, Any]


def take_heads(run: NodeRun, told: Told, request: Round, relayed: Sequence[bytes] = ()) -> None:
    """Check what a verified round says of the others' logs, and note it. ``relayed``: signed uploads before it.

    Raises RemoteProtocolError: wrong_round, bad_root or bad_signature for an upload; audit_head_mismatch for a root
    that is not theirs; audit_rolled_back for a head that its party showed in an earlier round; bad_request or
    coordinator_log for the coordinator's own head.
    """
    audit, others = told.log, _coordinators(run, told, request)
    peers: dict[str, bytes] = {}
    whole = False
    for part in relayed:
        upload = Upload.decode(part, run.roster)
        if (upload.id.run_id, upload.id.t) != (run.plan.run_id, request.id.t - 1):
            raise remote("wrong_round", "an upload that is not of the round before")
        upload.verify(run.roster)
        if peers.setdefault(upload.party, upload.audit_head) != upload.audit_head:
            raise remote("audit_head_mismatch", f"party {upload.party!r} shows two heads in one round")
        whole |= upload.id.kind == "update"
    if whole and heads_root(peers) != others:
        raise remote("audit_head_mismatch", "the round is not bound to the heads that the uploads carry")
    for party, head in peers.items():
        place = audit.place_of(party, head.hex())
        if head != ZERO_HASH and place not in (None, (run.plan.run_id.hex(), request.id.t)):
            raise remote("audit_rolled_back", f"party {party!r} shows a head of an earlier round again")
    if others != ZERO_HASH:
        shown = {party: head.hex() for party, head in sorted(peers.items())} or None
        audit.note(Heads(run.plan.run_id.hex(), request.id.t, others.hex(), shown))


def _check_signature(key: bytes, head: Head) -> None:
    try:
        verify(key, SIGNED_HEAD, head.hash, head.signature)
    except RemoteProtocolError:
        raise remote("coordinator_log", "its head is not signed by the key that the invitation names") from None


def _coordinators(run: NodeRun, told: Told, request: Round) -> bytes:
    """Check and note the head of the coordinator's log; returns the root over the parties' heads alone.

    One that does not follow from the last is noted as well: it is signed, and whoever compares the logs finds the fork.
    """
    key, body = audit_key(run.home), told.body
    last = told.log.coordinator_head(key)
    if SHOWN not in body:
        if key or last != START:
            raise remote("coordinator_log", "the round shows no head of it")
        return request.audit_head
    shown = Shown.from_json(body[SHOWN])
    if bound(shown.others, shown.head.hash) != request.audit_head:
        raise remote("audit_head_mismatch", "the round is not bound to the coordinator's head that comes with it")
    if key:
        _check_signature(key, shown.head)
    follows, named = shown.follows(last), key.hex() or None
    where, head = (run.plan.run_id.hex(), request.id.t), shown.head
    told.log.note(
        CoordinatorHead(*where, head.seq, head.hash.hex(), head.signature.hex(), named, None if follows else True)
    )
    if not follows:
        raise remote("coordinator_log", f"line {head.seq} does not follow from line {last.seq}, which was shown before")
    return shown.others
