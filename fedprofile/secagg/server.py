"""The coordinator's side of fps1, strict profile: it relays a set-up, checks uploads and adds what it cannot read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedprofile.errors import LocalProtocolError
from fedprofile.secagg.codes import local, remote
from fedprofile.secagg.handshake import check_ads, check_ciphertexts, check_opens
from fedprofile.secagg.identity import check_roster
from fedprofile.secagg.keys import transcript_hash
from fedprofile.secagg.open_messages import KeyOpen, OpenBundle
from fedprofile.secagg.policy import check_hidden, check_round
from fedprofile.secagg.round_messages import MaskedSum, Round, Upload
from fedprofile.secagg.setup_messages import Complaint, KeyAd, KeyBundle, Profile, SetupReq
from fedprofile.secagg.tally import Tally, Terms
from fedprofile.secagg.transitions import SETUP_AT_COORDINATOR, STRICT_AT_COORDINATOR, State, Sum, Table
from fedprofile.secagg.wire import ZERO_HASH, Buffer, ensure_hash, wire_order
from fedprofile.types import Layout, Opened, Policy, Roster, RoundId


@dataclass
class Pending:
    """One round in progress: its sum so far, and how far it is."""

    tally: Tally
    state: Sum = Sum.COLLECTING

    @property
    def members(self) -> tuple[str, ...]:
        """Whose values the sum holds once it is open."""
        return self.tally.terms.contributors


class ServerSession:
    """The coordinator of one run.

    run_id: 32 bytes. policy: the common minimum, whose hash every node expects. cohort: party ids of
    the run. setup: number of the last set-up of this run, 0 for a new run. hybrid: ML-KEM-768 beside X25519.
    ``threads`` changes speed only.
    """

    def __init__(
        self,
        run_id: bytes,
        roster: Roster,
        policy: Policy,
        cohort: tuple[str, ...],
        profile: Profile = "strict",
        *,
        schema_hash: bytes = ZERO_HASH,
        setup: int = 0,
        hybrid: bool = False,
        threads: int = 1,
    ) -> None:
        check_roster(roster)
        ensure_hash(local("wrong_length", "run_id and schema_hash have 32 bytes"), run_id, schema_hash)
        if len(set(cohort)) != len(cohort) or not set(cohort) <= {p.id for p in roster.parties}:
            raise local("unknown_party", "cohort")
        check_hidden(policy, roster, cohort)
        self.run_id, self.roster, self.policy, self.profile = run_id, roster, policy, profile
        self.cohort, self.setup, self._schema_hash = wire_order(cohort), setup, schema_hash
        self.hybrid, self._threads = hybrid, threads
        self._request: SetupReq | None = None
        self._bundle: KeyBundle | None = None
        self._opens: tuple[KeyOpen, ...] = ()
        self._t0 = b""
        self.state = State.IDLE
        self._pending: dict[tuple[str, str], Pending] = {}

    def setup_request(self, base_t: int = 0) -> bytes:
        """The SetupReq of the next set-up, the same for every node; ``base_t`` is the first t that it will serve."""
        self.setup += 1
        self._bundle, self._opens, self._t0 = None, (), b""
        self._pending.clear()
        hashes = (self.roster.hash, self.policy.hash, self._schema_hash)
        self._request = SetupReq(self.run_id, self.setup, base_t, self.profile, *hashes, self.cohort, self.hybrid)
        self._move(SetupReq.TYPE)
        return self._request.encode()

    def key_bundle(self, replies: Mapping[str, bytes]) -> bytes:
        """The KeyBundle from every node's KeyAd, by party id. Raises RemoteProtocolError naming the party."""
        request = self._asked(KeyBundle.TYPE)
        ads = tuple(KeyAd.decode(replies[p], self.roster) for p in wire_order(tuple(replies)))
        _check_origin(replies, tuple(ad.party for ad in ads))
        check_ads(self.roster, request, ads)
        self._bundle = KeyBundle(ads)
        self._move(KeyBundle.TYPE)
        return self._bundle.encode()

    def open_bundle(self, replies: Mapping[str, bytes]) -> bytes:
        """The OpenBundle from every node's KeyOpen, by party id; rounds may begin."""
        request = self._asked(OpenBundle.TYPE)
        if self._bundle is None:
            raise local("wrong_state")
        opens = tuple(KeyOpen.decode(replies[p], self.roster) for p in wire_order(tuple(replies)))
        _check_origin(replies, tuple(o.party for o in opens))
        check_opens(self.roster, request, self._bundle, opens)
        check_ciphertexts(request, opens)
        self._opens, public = opens, tuple(o.public for o in opens)
        self._t0 = transcript_hash(self._bundle.items, public)
        self._move(OpenBundle.TYPE)
        return OpenBundle(public).encode()

    def open_bundle_for(self, party: str) -> bytes:
        """The OpenBundle with the ML-KEM ciphertexts for one node; the same for all where the set-up is not hybrid."""
        if not self._opens:
            raise local("wrong_state")
        mine = tuple((o.party, c) for o in self._opens for receiver, c in o.ciphertexts if receiver == party)
        return OpenBundle(tuple(o.public for o in self._opens), mine).encode()

    def round(
        self,
        round_id: RoundId,
        cohort: tuple[str, ...],
        layout: Layout,
        model: bytes,
        *,
        spine_hash: bytes = ZERO_HASH,
        bundle_hash: bytes = ZERO_HASH,
        audit_head: bytes = ZERO_HASH,
        epoch: int = 0,
    ) -> bytes:
        """The Round message, the same for every member; replaces an unfinished one of this kind and scope.

        cohort: party ids, the opener of a score sum included. Raises what the nodes would refuse.
        """
        request = self._asked(Round.TYPE)
        ensure_hash(local("wrong_length"), spine_hash, bundle_hash, audit_head)
        if round_id.run_id != self.run_id or not set(cohort) <= set(self.cohort):
            raise local("wrong_run", "run or cohort of another set-up")
        if not request.base_t <= round_id.t < 1 << 32 or not 0 <= round_id.attempt < 1 << 32:
            raise local("stale_round", "t or attempt outside this set-up")
        hashes = (self.policy.hash, audit_head, spine_hash, bundle_hash)
        round = Round(round_id, wire_order(cohort), layout, model, *hashes, epoch, self._threads)
        check_round(self.policy, self.roster, round, LocalProtocolError)
        tally = Tally(self.roster, Terms.of(round, round.bind(self._t0)), threads=self._threads)
        self._pending[round_id.kind, round_id.scope] = self._begin(tally)
        return round.encode()

    def add(self, round_id: RoundId, party: str, upload: Buffer) -> None:
        """Verifies one Upload and adds it to the sum; raises as ``Tally.add`` does."""
        self._current(round_id, Upload.TYPE).tally.add(party, upload)

    def open(self, round_id: RoundId, uploads: Mapping[str, Buffer] | None = None) -> Opened:
        """The sum over all contributors, from ``uploads`` and what was added before; the round is over then.

        Raises RemoteProtocolError("missing_member") or as ``add`` does, and then the mend is a new attempt;
        LocalProtocolError("wrong_opener") for a score sum.
        """
        if round_id.opener:
            raise local("wrong_opener", "only the label owner opens a score sum")
        pending = self._finish(round_id, uploads)
        return Opened(round_id, pending.members, pending.tally.values())

    def masked_sum(self, round_id: RoundId, uploads: Mapping[str, Buffer] | None = None) -> bytes:
        """The MaskedSum for the opener of a score sum; raises as ``open`` does."""
        if not round_id.opener:
            raise local("wrong_opener")
        tally = self._finish(round_id, uploads).tally
        return MaskedSum(round_id, tally.terms.h, tally.total).encode(threads=self._threads)

    def complaint(self, data: Buffer) -> Complaint:
        """A node's Complaint, its signature verified."""
        message = Complaint.decode(data, self.roster)
        message.verify(self.roster)
        return message

    def _finish(self, round_id: RoundId, uploads: Mapping[str, Buffer] | None) -> Pending:
        pending = self._current(round_id, "open")
        for party, upload in (uploads or {}).items():
            pending.tally.add(party, upload)
        pending.tally.ensure_whole()
        del self._pending[round_id.kind, round_id.scope]
        return pending

    def _begin(self, tally: Tally) -> Pending:
        return Pending(tally)

    def _table(self, round_id: RoundId) -> Table[Sum]:
        return STRICT_AT_COORDINATOR

    def _current(self, round_id: RoundId, event: str) -> Pending:
        pending = self._pending.get((round_id.kind, round_id.scope))
        if pending is None or pending.tally.terms.id != round_id:
            raise local("wrong_round", "not in progress")
        if (pending.state, event) not in self._table(round_id):
            raise local("wrong_state", f"{event} while {pending.state.value}")
        return pending

    def _asked(self, event: str) -> SetupReq:
        if self._request is None or (self.state, event) not in SETUP_AT_COORDINATOR:
            raise local("wrong_state", f"{event} while {self.state.value}")
        return self._request

    def _move(self, event: str) -> None:
        self.state = SETUP_AT_COORDINATOR[self.state, event]


def _check_origin(replies: Mapping[str, bytes], senders: tuple[str, ...]) -> None:
    if senders != wire_order(tuple(replies)):
        raise remote("unknown_party", "a reply in another party's name")
