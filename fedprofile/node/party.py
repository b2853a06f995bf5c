"""A node as the coordinator sees it: bytes in, bytes out. One table of handlers; whatever is not in it is refused."""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from fedprofile.alignment.letters import SpineFact
from fedprofile.crash import crash_at
from fedprofile.errors import (
    FedprofileError,
    LocalProtocolError,
    PolicyRefusal,
    ProtocolError,
    RemoteProtocolError,
    TrainingDiverged,
)
from fedprofile.messages import Envelope
from fedprofile.models.layout import start_hash
from fedprofile.node.aligning import Aligning, PartnerAligning
from fedprofile.node.approvals import Approval, check_approved, decided
from fedprofile.node.audit import NodeAudit
from fedprofile.node.budgets import spent
from fedprofile.node.encoders import keep_encoder
from fedprofile.node.heads import Told
from fedprofile.node.home import NodeHome
from fedprofile.node.journal import Journal
from fedprofile.node.membership import pin, pinned_roster, signed_invitation
from fedprofile.node.policy import check_plan, read_common, read_policy
from fedprofile.node.recompute import check_counts, final_shared
from fedprofile.node.rounds import answer_round, tensors
from fedprofile.node.run import NodeRun
from fedprofile.node.session import SessionKeeper
from fedprofile.node.starts import trust_start, trusted_starts
from fedprofile.node.uniting import Uniting
from fedprofile.privacy.sealing import unseal
from fedprofile.secagg.identity import Identity, verify
from fedprofile.secagg.policy import stricter
from fedprofile.secagg.setup_messages import Complaint
from fedprofile.secagg.wire import ZERO_HASH
from fedprofile.types import Roster, RunPlan

log = logging.getLogger(__name__)
A = TypeVar("A", bound=Aligning)

SIGNED_RELEASE = "label-release"
_SIGNATURE = 64


class Node:
    """Answers one request at a time. Nothing but an envelope that ``fedprofile.messages`` lists ever comes out."""

    def __init__(self, home: NodeHome) -> None:
        self.home = home
        self.me = home.config.party
        self.journal = Journal(home.keys / "journal.jsonl")
        self.audit = NodeAudit(home, self.journal)
        self.identity = Identity.from_seed(home.derive("identity"))
        self._take_roster()
        self.handlers: dict[str, Callable[[Envelope], Envelope]] = {
            "identify": self._identify,
            "plan": self._approve,
            "setup": self._set_up,
            "key-bundle": self._key_bundle,
            "open-bundle": self._open_bundle,
            "align": self._align,
            "align-match": self._align_match,
            "align-store": self._align_store,
            "unite": self._list,
            "unite-blind": self._blind,
            "unite-mask": self._mask,
            "unite-name": self._name,
            "unite-store": self._store_union,
            "release": self._store_release,
            "bins": self._store_bins,
            "round": self._round,
            "survivors": self._survivors,
            "open": self._open,
            "finish": self._finish,
        }

    def _take_roster(self) -> None:
        """The pinned roster and the limits that hold in it; before there is one, what this node has signed."""
        self.roster = pinned_roster(self.home) or signed_invitation(self.home).roster
        own, common = read_policy(self.home), read_common(self.home)
        self.policy = stricter(own, common)
        self.keeper = SessionKeeper(self.home, self.identity, self.roster, own, common, self.journal)
        self._run: NodeRun | None = None

    def handle(self, request: bytes) -> bytes:
        """Never raises: a failure becomes a fixed code, its cause stays in this node's own log.

        The reply is in the audit log, on disk, when it is returned. Where that fails nothing leaves but the code
        "audit_failed", the one message that has no line.
        """
        with self.home.lock():
            try:
                self.audit.begin()
                asked, reply = self._respond(request)
                self.audit.sent(asked, reply, self._plan(), self.roster)
                return reply
            except (FedprofileError, OSError) as error:
                log.error("node %s: %s", self.me, error if isinstance(error, FedprofileError) else error.strerror)
                return Envelope("error", {"code": "audit_failed"}).encode()

    def _respond(self, request: bytes) -> tuple[str, bytes]:
        """Type of the request, "" for one that is none, and the reply."""
        asked = ""
        try:
            envelope = Envelope.decode(request)
            asked, handler = envelope.type, self.handlers.get(envelope.type)
            if handler is None:
                raise RemoteProtocolError("not_for_this_node", "this node does not answer such requests")
            self._keep_permitted()
            return asked, handler(envelope).encode()
        except TrainingDiverged as error:
            log.error("%s", error)
            body = {"code": "training_diverged", "layer": error.layer, "t": error.t}
            return asked, Envelope("error", body).encode()
        except ProtocolError as error:
            log.error("node %s refused: %s", self.me, error)
            self.journal.append({"event": "refused", "code": error.code})
            return asked, self._refusal(error, request).encode()
        except FedprofileError as error:
            log.error("node %s: %s", self.me, error)
            return asked, Envelope("error", {"code": "node_failed"}).encode()
        except Exception as error:  # a reply must never carry an exception's text, which may quote data
            log.error("node %s: %s", self.me, type(error).__name__)
            log.debug("%s", "".join(traceback.format_tb(error.__traceback__)))  # frames, never the text
            return asked, Envelope("error", {"code": "internal_error"}).encode()

    def _plan(self) -> RunPlan | None:
        """The plan of the run that this node is in."""
        data = self.home.read("plan.json")
        return RunPlan.from_json(data) if data else None

    def _refusal(self, error: ProtocolError, request: bytes) -> Envelope:
        """The fixed code and, where the other side is to blame, a signed complaint about the request's hash."""
        body = {"code": error.code}
        if isinstance(error, LocalProtocolError):
            return Envelope("error", body)
        run_id = plan.run_id if (plan := self._plan()) else ZERO_HASH
        return Envelope("error", body, (Complaint.of(run_id, self.me, error, request, self.identity).encode(),))

    @property
    def run(self) -> NodeRun:
        if self._run is None:
            plan = self._plan()
            if plan is None:
                raise RemoteProtocolError("no_plan", "a plan must be approved first")
            self._run = NodeRun(self.home, plan, self.roster, note=self.audit.note)
        return self._run

    def _keep_permitted(self) -> None:
        """Ask the permit before every message; where somebody's has ended, read the rows again without them."""
        if self._run is not None and (left := self._run.narrow()):
            held = self._run
            self._run = NodeRun(held.home, held.plan, held.roster, held.permit, self.audit.note)
            self.journal.append({"event": "withdrawn", "plan": held.plan.hash.hex(), "customers": left})

    def _identify(self, _: Envelope) -> Envelope:
        return Envelope("identity", {"party": self.me})

    def _approve(self, envelope: Envelope) -> Envelope:
        """Check the plan against the pinned roster and the node's own policy; sign its hash once it is approved."""
        plan = RunPlan.from_json(str(envelope.body["plan"]).encode())
        pin(self.home, Roster.from_json(envelope.body["roster"]))
        if pinned_roster(self.home) != self.roster:
            self._take_roster()
        try:
            self._check_plan(plan, envelope.body.get("profile"))
        except PolicyRefusal:
            self.audit.note(decided(self.home, plan, "refused", Approval("policy")))
            raise
        begun = self.audit.begun
        approval = check_approved(self.home, plan, datetime.now(UTC).date(), begun)
        if approval is None:
            return Envelope("pending")
        first = self.home.read("plan.json") != plan.to_json()
        if first:
            self._begin_run(plan)
        if approval.under:  # what is in the log counts, whatever a crash left in the run's folder
            first = plan.hash.hex() not in begun.get(approval.under, ())
        if approval.by == "policy" and first:
            self.audit.note(decided(self.home, plan, "approved", approval))
        self._run = None
        self.journal.append({"event": "approved", "plan": plan.hash.hex(), "purpose": plan.purpose})
        return Envelope("approval", {"plan": plan.hash.hex()}, (self.identity.sign("approval", plan.hash),))

    def _begin_run(self, plan: RunPlan) -> None:
        self.home.clear_run()
        self.home.write("plan.json", plan.to_json())

    def _check_plan(self, plan: RunPlan, profile: object) -> None:
        check_plan(plan, self.roster, self.policy, read_common(self.home), self.home.config.align)
        if plan.start and plan.start.hex() not in trusted_starts(self.home):
            raise PolicyRefusal("unknown_start", "the run is to begin from weights that this node does not know")
        if profile != self.home.config.profile:
            raise PolicyRefusal("profile_mismatch", "this node's own configuration names another profile")
        if plan.recompute and self.home.config.profile == "none":
            raise PolicyRefusal("unmasked_uploads", "uploads without masks are not for every node to see")
        if plan.recompute and self.home.config.profile == "resilient":
            raise PolicyRefusal("not_recomputable", "uploads carry self masks, which no node can take off their sum")

    def _set_up(self, envelope: Envelope) -> Envelope:
        self.keeper.begin()
        answer = self._answer(envelope)
        crash_at("keys")
        return Envelope("key-ad", parts=(answer,))

    def _key_bundle(self, envelope: Envelope) -> Envelope:
        return Envelope("key-open", parts=(self._answer(envelope),))

    def _open_bundle(self, envelope: Envelope) -> Envelope:
        self.keeper.handle(only_part(envelope))
        return Envelope("ready")

    def _answer(self, envelope: Envelope) -> bytes:
        reply = self.keeper.handle(only_part(envelope))
        if reply is None:
            raise RemoteProtocolError("bad_order", "this message has no answer")
        return reply

    def _align(self, _: Envelope) -> Envelope:
        return Envelope("points", parts=(self._aligning(PartnerAligning).points(),))

    def _align_match(self, envelope: Envelope) -> Envelope:
        if len(envelope.parts) != 2:
            raise RemoteProtocolError("bad_envelope", "an answer comes with the spine's signature")
        signature, sealed = envelope.parts
        claims = self._aligning(PartnerAligning).match(self._fact(envelope, signature), sealed)
        return Envelope("claims", parts=(claims,))

    def _align_store(self, envelope: Envelope) -> Envelope:
        """The end of an alignment; one that is simulated has nothing before it, and the spine's signature here."""
        aligning, part = self._aligning(PartnerAligning), only_part(envelope)
        if self.home.config.align == "simulated":
            aligning.store_simulated(self._fact(envelope, part))
        else:
            aligning.store(part)
        self._run = None
        return Envelope("aligned")

    def _list(self, _: Envelope) -> Envelope:
        size, signature = self._aligning(Uniting).listed()
        return Envelope("listed", {"size": size}, (signature,))

    def _blind(self, envelope: Envelope) -> Envelope:
        return Envelope("masked", parts=(self._aligning(Uniting).blind(envelope.body, envelope.parts),))

    def _mask(self, envelope: Envelope) -> Envelope:
        return Envelope("masked", parts=(self._aligning(Uniting).mask(only_part(envelope)),))

    def _name(self, envelope: Envelope) -> Envelope:
        return Envelope("names", parts=(self._aligning(Uniting).names(only_part(envelope)),))

    def _store_union(self, envelope: Envelope) -> Envelope:
        self._aligning(Uniting).store(envelope.body, only_part(envelope))
        self._run = None
        return Envelope("aligned")

    def _aligning(self, side: type[A]) -> A:
        held = self.home, self.identity, self.roster, self.policy, self.journal
        return side(*held, self.run.plan, self.keeper.current)

    def _fact(self, envelope: Envelope, signature: bytes) -> SpineFact:
        owner = self.roster.party(self.roster.label_owner)
        return SpineFact.verified(envelope.body, signature, self.run.plan.hash, owner)

    def _store_release(self, envelope: Envelope) -> Envelope:
        """Open the labels sealed to this node; the label owner's signature says who sealed them."""
        signed = only_part(envelope)
        sealed, signature = signed[:-_SIGNATURE], signed[-_SIGNATURE:]
        verify(self.roster.party(self.roster.label_owner).sign_pk, SIGNED_RELEASE, sealed, signature)
        key = self.keeper.current.own_seal_key()
        self.run.store_release(unseal(sealed, key, self.run.plan.hash, self.me))
        return Envelope("labels-stored")

    def _store_bins(self, envelope: Envelope) -> Envelope:
        """A run has one set of bins: weights of other bins would be another network's."""
        counts, *relayed = envelope.parts or (b"",)
        summed = tensors(counts)
        mark, held = hashlib.sha256(counts).hexdigest().encode(), self.home.read("bins")
        if held not in (None, mark):
            raise RemoteProtocolError("bins_changed", "a run has one set of bins")
        if held is None and self.run.plan.recompute:
            check_counts(self.run, summed, relayed)
        self.run.share_features(summed)
        self.home.write("bins", mark)
        return Envelope("bins-stored")

    def _round(self, envelope: Envelope) -> Envelope:
        told = Told(self.audit, envelope.body)
        return Envelope("uploads", parts=answer_round(self.run, self.keeper.current, told, envelope.parts))

    def _survivors(self, envelope: Envelope) -> Envelope:
        return Envelope("agreements", parts=self.keeper.settle(envelope.parts))

    def _open(self, envelope: Envelope) -> Envelope:
        return Envelope("reveals", parts=self.keeper.settle(envelope.parts))

    def _finish(self, _: Envelope) -> Envelope:
        word = keep_encoder(self.home, self.identity, self.run.plan.hash, lambda: self.run.scorer().to_bytes())
        self._end_run()
        return Envelope("finished", {"encoder": word.digest.hex()}, (word.signature,))

    def _end_run(self) -> None:
        if shared := final_shared(self.run):
            trust_start(self.home, start_hash(shared))
        self.keeper.end()
        self.journal.append({"event": "finished"})
        self.audit.note(spent(self.home, self.run.plan))


def only_part(envelope: Envelope) -> bytes:
    """Raises RemoteProtocolError("bad_envelope") unless the message has exactly one part."""
    if len(envelope.parts) != 1:
        raise RemoteProtocolError("bad_envelope", f"a {envelope.type!r} message has one part")
    return envelope.parts[0]
