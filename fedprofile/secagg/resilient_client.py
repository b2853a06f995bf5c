"""A node's side of fps1, resilient profile: a sum may open without members that vanished, over one set that all know.

After an Upload the journal alone says what this node may still sign or reveal, so a session that another
process restored goes on where the first stood.
"""

from __future__ import annotations

from typing import Any

from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.codes import refusal, remote
from fedprofile.secagg.encoding import draw, vectors
from fedprofile.secagg.graph import Circle, graph_of
from fedprofile.secagg.handshake import Agreed, Handshake
from fedprofile.secagg.identity import verify
from fedprofile.secagg.keys import PairKeys
from fedprofile.secagg.masking import add_masks
from fedprofile.secagg.policy import check_survivors
from fedprofile.secagg.record import Entry, Last, survivors_entry
from fedprofile.secagg.resilient_messages import Agree, Open, ResilientUpload, Reveal, Survivors
from fedprofile.secagg.round_messages import Round, Upload
from fedprofile.secagg.setup_messages import SetupReq
from fedprofile.secagg.shares import deal, held, own_seed, self_key, to_reveal
from fedprofile.secagg.transitions import RESILIENT_AT_NODE, State, Sum, Table
from fedprofile.secagg.wire import Buffer, Items, message_type
from fedprofile.types import RoundId


class ResilientSession(ClientSession):
    """ClientSession whose ``handle`` also answers Survivors with Agree and Open with Reveal.

    Score sums follow the strict rules. Every refusal leaves the session as it was, nothing released.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.profile = "resilient"
        self._own = b""
        self._shares: PairKeys | None = None

    def verify_round(self, data: bytes) -> Round:
        """As in ClientSession; the sealing key goes with the first round, since old shares could be read with it."""
        round = super().verify_round(data)
        self._seal = None
        return round

    def advance(self, t: int) -> None:
        super().advance(t)
        self._share_keys().advance(t)

    def handle(self, message: bytes) -> bytes | None:
        """As in SetupSession; and Agree for Survivors, Reveal for Open.

        The same set may be asked for again, by a coordinator that lost the answers: the shares of an honest owner
        that are revealed follow from H and the set alone, so the second answer says what the first one said.
        Raises RemoteProtocolError (wrong_round, bad_signature, bad_share) or PolicyRefusal: not_uploaded,
        agreed_before, revealed_before, wrong_survivors, survivors_changed, too_few_survivors, too_few_hidden,
        too_few_signatures, score_needs_all.
        """
        kind = message_type(message)
        if self.state is State.READY and kind == Survivors.TYPE:
            return self._on_survivors(message)
        if self.state is State.READY and kind == Open.TYPE:
            return self._on_open(message)
        return super().handle(message)

    # -- set-up ----------------------------------------------------------------------------------
    def _check_request(self, request: SetupReq) -> None:
        super()._check_request(request)
        if not self.policy.accept_differencing:
            raise refusal("differencing_refused")

    def _begin(self, request: SetupReq) -> Handshake:
        handshake = super()._begin(request)
        self._own = draw(self._rand, 32)
        return handshake

    def _take_keys(self, agreed: Agreed) -> None:
        super()._take_keys(agreed)
        asked, bundle = self._live().request, self._live().bundle
        peers = {ad.party: ad.pk_enc for ad in bundle.items if ad.party != self.me} if bundle else {}
        self._shares = PairKeys.agree(
            self.me, agreed.seal, peers, agreed.t0, asked.base_t, kem=agreed.kem, own=self._own
        )
        self._own = b""

    def _reset(self, state: State) -> None:
        super()._reset(state)
        if self._shares is not None:
            self._shares.erase()
        self._shares, self._own = None, b""

    # -- upload ----------------------------------------------------------------------------------
    def _table(self, id: RoundId) -> Table[Sum]:
        return super()._table(id) if id.kind == "score" else RESILIENT_AT_NODE

    def _check_graph(self, contributors: tuple[str, ...], id: RoundId) -> None:
        """The graph follows from the common policy; this node's own count of colluders has to fit into it."""
        if id.kind == "score":
            return
        if not graph_of(len(contributors), self._common.colluders).tolerates(self.policy.colluders):
            raise refusal("threshold_refused", f"{self.policy.colluders} colluders")

    def _mask(self, y: Buffer, round: Round, h: bytes) -> None:
        if round.id.kind == "score":
            return super()._mask(y, round, h)
        pads = self._ready().pads(h, self._circle(round.contributors).neighbours(self.me))
        own = self_key(own_seed(self._share_keys(), self.me, h), h)
        return add_masks(vectors(y, round.layout), [*pads, (own, 1)], threads=self._threads)

    def _send(self, upload: Upload, round: Round, entry: Entry) -> bytes:
        if round.id.kind == "score":
            return super()._send(upload, round, entry)
        circle, h = self._circle(round.contributors), upload.h
        peers = circle.neighbours(self.me)
        pads = {p: key for p, (key, _) in zip(peers, self._ready().pads(h, peers), strict=True)}
        checks, shares = deal(self._share_keys(), self.me, h, circle, pads)
        consent = b""
        if circle.graph.complete:
            consent = Agree(round.id, self.me, h, round.contributors).signed(self._identity).signature
        super()._send(upload, round, entry | {"h": h.hex()})
        return ResilientUpload(upload, consent, checks, shares).signed(self._identity).encode()

    # -- opening ---------------------------------------------------------------------------------
    def _on_survivors(self, data: bytes) -> bytes:
        message = Survivors.decode(data, self.roster)
        last = self._standing(message.id, message.h, Survivors.TYPE)
        if last.agreed not in ((), message.survivors):
            raise refusal("agreed_before")
        circle = self._check_survivors(message.survivors, last.contributors)
        if circle.graph.complete and message.survivors == last.contributors:
            raise refusal("wrong_survivors", "the upload consented to the full cohort")
        if not last.agreed:
            self._commit(survivors_entry("agree", message.id, message.survivors, self._clock()))
        return Agree(message.id, self.me, message.h, message.survivors).signed(self._identity).encode()

    def _on_open(self, data: bytes) -> bytes:
        message = Open.decode(data, self.roster)
        last = self._standing(message.id, message.h, Open.TYPE)
        if last.agreed not in ((), message.survivors):
            raise refusal("revealed_before" if last.state is Sum.REVEALED else "survivors_changed")
        circle = self._check_survivors(message.survivors, last.contributors)
        self._check_signatures(message, circle)
        shares = self._open_shares(message, circle)
        if last.state is not Sum.REVEALED:
            self._commit(survivors_entry("reveal", message.id, message.survivors, self._clock()))
        unsigned = Reveal(message.id, self.me, message.h, message.survivors, shares)
        return unsigned.signed(self._identity).encode()

    def _standing(self, id: RoundId, h: bytes, event: str) -> Last:
        """Where this node stands in the round that a message names; it has to be the last one of its kind and scope."""
        if id.kind == "score":
            raise refusal("score_needs_all")
        last, keys = self._record.last(id), self._ready()
        if (last.t, last.attempt, keys.t) != (id.t, id.attempt, id.t):
            raise remote("wrong_round", event)
        self._record.check_event(self._table(id), id, event, refusal)
        if last.h != h:
            raise remote("wrong_round", event)
        return last

    def _check_survivors(self, survivors: tuple[str, ...], contributors: tuple[str, ...]) -> Circle:
        if self.me not in survivors or not set(survivors) <= set(contributors):
            raise refusal("wrong_survivors")
        circle = self._circle(contributors)
        check_survivors(self.policy, self.roster, circle.graph, survivors)
        if len(set(circle.holders(self.me)) & set(survivors)) < circle.graph.threshold:
            raise refusal("too_few_survivors", "among the holders of this node's shares")
        return circle

    def _check_signatures(self, message: Open, circle: Circle) -> None:
        """All consents to the full cohort where the graph is complete, otherwise a quorum for the set named."""
        signers = [p for p, _ in message.signatures]
        full = circle.graph.complete and message.survivors == circle.members
        if not set(signers) <= set(message.survivors):
            raise refusal("wrong_survivors", "signed by others")
        if len(signers) < (len(circle.members) if full else circle.graph.quorum):
            raise refusal("too_few_signatures")
        for party, signature in message.signatures:
            agreed = Agree(message.id, party, message.h, message.survivors)
            verify(self.roster.party(party).sign_pk, Agree.TYPE, agreed.body().done(), signature)

    def _open_shares(self, message: Open, circle: Circle) -> Items:
        survivors = frozenset(message.survivors)
        owners = tuple(p for p in circle.holders(self.me) if p in survivors)
        sealed, keys, revealed = dict(message.shares), self._share_keys(), []
        if not sealed.keys() <= set(owners):
            raise remote("bad_share", "of others than the survivors whose holder this node is")
        for owner in owners:
            parts = held(keys, owner, self.me, message.h, circle, sealed.get(owner))
            revealed.append((owner, to_reveal(circle, owner, parts, survivors)))
        return tuple(revealed)

    def _circle(self, contributors: tuple[str, ...]) -> Circle:
        return Circle(self._t0, contributors, graph_of(len(contributors), self._common.colluders))

    def _share_keys(self) -> PairKeys:
        if self._shares is None:
            raise remote("need_setup")
        return self._shares
