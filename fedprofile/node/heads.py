"""Heads of the others' audit logs: what a round is bound to, compared with what they signed.

A Round carries the root over the audit heads of the uploads before it, and every field of a Round is bound into the
masks: nodes that are shown different roots do not unmask. Where uploads are recomputed, a node is handed the signed
uploads of the round before and works the root out itself, so two histories of one log, shown to two partners, or a
head that was shown before (a log that was put back) end the run one round later. Elsewhere it keeps the root alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedprofile.governance.audit import Heads, heads_root
from fedprofile.node.audit import NodeAudit
from fedprofile.node.run import NodeRun
from fedprofile.secagg.codes import remote
from fedprofile.secagg.messages import Round, Upload
from fedprofile.secagg.wire import ZERO_HASH


def take_heads(run: NodeRun, audit: NodeAudit, request: Round, relayed: Sequence[bytes] = ()) -> None:
    """Check what a verified round says of the others' logs, and note it. ``relayed``: signed uploads before it.

    Raises RemoteProtocolError: wrong_round, bad_root or bad_signature for an upload; audit_head_mismatch for a root
    that is not theirs; audit_rolled_back for a head that its party showed in an earlier round.
    """
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
    if whole and heads_root(peers) != request.audit_head:
        raise remote("audit_head_mismatch", "the round is not bound to the heads that the uploads carry")
    for party, head in peers.items():
        place = audit.place_of(party, head.hex())
        if head != ZERO_HASH and place not in (None, (run.plan.run_id.hex(), request.id.t)):
            raise remote("audit_rolled_back", f"party {party!r} shows a head of an earlier round again")
    if request.audit_head != ZERO_HASH:
        shown = {party: head.hex() for party, head in sorted(peers.items())} or None
        audit.note(Heads(run.plan.run_id.hex(), request.id.t, request.audit_head.hex(), shown))
