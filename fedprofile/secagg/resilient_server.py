"""The coordinator's side of fps1, resilient profile: the exact sum of those who uploaded, whoever vanishes after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fedprofile.secagg import shamir
from fedprofile.secagg.codes import local, remote
from fedprofile.secagg.encoding import vectors
from fedprofile.secagg.graph import Circle, graph_of
from fedprofile.secagg.masking import Pad, add_masks
from fedprofile.secagg.messages import expected_resilient_upload_size
from fedprofile.secagg.policy import check_survivors
from fedprofile.secagg.resilient_messages import Agree, Open, ResilientUpload, Reveal, Survivors
from fedprofile.secagg.server import Pending, ServerSession
from fedprofile.secagg.shares import CHECK, check, checks_size, sealed_size, self_key
from fedprofile.secagg.suspended import Suspended
from fedprofile.secagg.tally import Tally, Terms
from fedprofile.secagg.transitions import RESILIENT_AT_COORDINATOR, Sum, Table
from fedprofile.secagg.wire import Buffer, Items, party_wire_id
from fedprofile.types import RoundId


@dataclass
class _Shared(Pending):
    """A round with what opens it: consents and sealed shares of each upload, then agreements, then what was revealed.

    ``survivors``: the set that is asked for, () while uploads still come.
    """

    circle: Circle = field(kw_only=True)
    survivors: tuple[str, ...] = ()
    consents: dict[str, bytes] = field(default_factory=dict)
    checks: dict[str, bytes] = field(default_factory=dict)
    sealed: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)
    agreed: dict[str, bytes] = field(default_factory=dict)
    revealed: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)

    @property
    def members(self) -> tuple[str, ...]:
        return self.survivors

    @property
    def consented(self) -> bool:
        """Whether the consents given with the uploads open this set."""
        return self.circle.graph.complete and self.survivors == self.circle.members


class ResilientServer(ServerSession):
    """ServerSession with more steps after the uploads: ``survivors``, ``agree``, ``requests``, ``reveal``.

    ``agree`` falls away where ``survivors`` gives None. Then ``open`` gives the sum over the survivors, and its
    ``uploads`` stay empty. Score sums follow the strict rules.
    """

    def add(self, round_id: RoundId, party: str, upload: Buffer) -> None:
        """As in ServerSession, and consent and shares; LocalProtocolError("wrong_state") for a late upload."""
        if round_id.kind == "score":
            return super().add(round_id, party, upload)
        pending = self._shared(round_id, "Upload")
        if party not in pending.circle.members:
            raise remote("unknown_party", f"upload in the name of party {party!r}")
        if memoryview(upload).nbytes != expected_resilient_upload_size(
            pending.tally.terms.layout, pending.circle, party
        ):
            raise remote("wrong_length", f"upload of party {party!r}")
        message = ResilientUpload.decode(upload, self.roster)
        pending.tally.check(party, message.upload)
        if tuple(p for p, _ in message.shares) != pending.circle.sent(party):
            raise remote("bad_share", f"party {party!r} shared with others than its holders")
        sizes = {sealed_size(pending.circle, party)} if message.shares else set()
        if {len(d) for _, d in message.shares} != sizes or len(message.checks) != checks_size(pending.circle, party):
            raise remote("bad_share", f"party {party!r} shared other secrets than a seed and its pads")
        message.verify(self.roster)
        if pending.circle.graph.complete:
            consent = Agree(round_id, party, pending.tally.terms.h, pending.circle.members, message.consent)
            consent.verify(self.roster)
        pending.tally.take(message.upload)
        pending.consents[party], pending.checks[party] = message.consent, message.checks
        pending.sealed[party] = dict(message.shares)
        return None

    def survivors(self, round_id: RoundId) -> bytes | None:
        """Closes the uploads; the Survivors message for each who sent one, None if their consents suffice.

        Raises PolicyRefusal (too_few_survivors, too_few_hidden): then nothing opens, and nothing was released.
        """
        pending = self._shared(round_id, Survivors.TYPE)
        survivors = tuple(p for p in pending.circle.members if p in pending.tally.seen)
        check_survivors(self.policy, self.roster, pending.circle.graph, survivors)
        pending.survivors = survivors
        if not pending.consented:
            pending.state = self._table(round_id)[pending.state, Survivors.TYPE]
        return next(iter(self.questions(round_id).values()), None)

    def questions(self, round_id: RoundId) -> dict[str, bytes]:
        """Survivor -> Survivors message once they are named; empty where consents or held agreements suffice."""
        pending = self._shared(round_id, Open.TYPE)
        if pending.consented or len(pending.agreed) >= pending.circle.graph.quorum:
            return {}
        return dict.fromkeys(pending.survivors, Survivors(round_id, pending.tally.terms.h, pending.survivors).encode())

    def suspend(self, round_id: RoundId) -> bytes:
        """The sum as it stands, survivors named: what ``resume`` opens it from in another process."""
        pending = self._pending[round_id.kind, round_id.scope]
        if not isinstance(pending, _Shared) or not pending.survivors:
            raise local("wrong_state", "survivors first")
        terms, survivors = pending.tally.terms, pending.survivors
        return Suspended(
            pending.circle.t0, round_id, terms.h, terms.contributors, survivors, terms.layout,
            consents=tuple((p, pending.consents[p]) for p in survivors if pending.consented),
            agreed=tuple((p, pending.agreed[p]) for p in survivors if p in pending.agreed),
            checks=tuple((p, pending.checks[p]) for p in survivors),
            sealed=tuple((p, tuple(pending.sealed[p].items())) for p in survivors),
            total=pending.tally.total,
        ).encode()  # fmt: skip

    def resume(self, suspended: bytes) -> RoundId:
        """Takes up what ``suspend`` gave: before a new set-up, since nodes open under the keys of the old one."""
        held = Suspended.decode(suspended, self.roster)
        tally = Tally(self.roster, Terms(held.id, held.h, held.contributors, held.layout), threads=self._threads)
        tally.total, tally.seen = bytearray(held.total), set(held.survivors)
        circle = Circle(held.t0, held.contributors, graph_of(len(held.contributors), self.policy.colluders))
        pending = _Shared(
            tally, circle=circle, survivors=held.survivors, consents=dict(held.consents), agreed=dict(held.agreed),
            checks=dict(held.checks), sealed={owner: dict(items) for owner, items in held.sealed},
        )  # fmt: skip
        if not pending.consented:
            pending.state = self._table(held.id)[pending.state, Survivors.TYPE]
        self._pending[held.id.kind, held.id.scope] = pending
        return held.id

    def agree(self, round_id: RoundId, party: str, data: Buffer) -> None:
        """Takes one Agree. Raises RemoteProtocolError: wrong_round, unknown_party, duplicate, bad_signature."""
        pending = self._shared(round_id, Agree.TYPE)
        message = Agree.decode(data, self.roster)
        self._check_reply(pending, party, message)
        if party in pending.agreed:
            raise remote("duplicate", f"agreement of party {party!r}")
        message.verify(self.roster)
        pending.agreed[party] = message.signature

    def requests(self, round_id: RoundId) -> dict[str, bytes]:
        """Survivor -> its Open. Raises RemoteProtocolError("too_few_signatures") before a quorum has agreed."""
        pending = self._shared(round_id, Open.TYPE)
        if pending.state is Sum.COLLECTING and pending.survivors != pending.circle.members:
            raise local("wrong_state", "survivors first")
        signatures = pending.consents if pending.state is Sum.COLLECTING else pending.agreed
        if len(signatures) < pending.circle.graph.quorum:
            raise remote("too_few_signatures", f"{len(signatures)} of {pending.circle.graph.quorum}")
        pending.state = self._table(round_id)[pending.state, Open.TYPE]
        enough = len(signatures) if signatures is pending.consents else pending.circle.graph.quorum
        signed: Items = tuple((p, signatures[p]) for p in pending.survivors if p in signatures)[:enough]
        message = Open(round_id, pending.tally.terms.h, pending.survivors, signed, ())
        return {p: replace(message, shares=_sealed_for(pending, p)).encode() for p in pending.survivors}

    def reveal(self, round_id: RoundId, party: str, data: Buffer) -> None:
        """Takes one Reveal. Raises RemoteProtocolError as ``agree`` does, or bad_share."""
        pending = self._shared(round_id, Reveal.TYPE)
        message = Reveal.decode(data, self.roster)
        self._check_reply(pending, party, message)
        if party in pending.revealed:
            raise remote("duplicate", f"reveal of party {party!r}")
        sizes = [(p, shamir.SIZE * (1 + len(_cut(pending, p)))) for p in _owners(pending, party)]
        if [(p, len(data)) for p, data in message.shares] != sizes:
            raise remote("bad_share", f"reveal of party {party!r}")
        message.verify(self.roster)
        pending.revealed[party] = dict(message.shares)

    def _check_reply(self, pending: _Shared, party: str, message: Agree | Reveal) -> None:
        if message.party != party or party not in pending.survivors:
            raise remote("unknown_party", f"{message.TYPE} in the name of party {party!r}")
        if (message.id, message.h, message.survivors) != (
            pending.tally.terms.id,
            pending.tally.terms.h,
            pending.survivors,
        ):
            raise remote("wrong_round", f"{message.TYPE} of party {party!r}")

    def _finish(self, round_id: RoundId, uploads: Mapping[str, Buffer] | None) -> Pending:
        """Takes the survivors' noise off their sum, chunk by chunk; a round that lacks shares stays as it is."""
        if round_id.kind == "score":
            return super()._finish(round_id, uploads)
        pending = self._shared(round_id, "open")
        if uploads:
            raise local("wrong_state", "uploads are added before the survivors are named")
        add_masks(vectors(pending.tally.total, pending.tally.terms.layout), _noise(pending), threads=self._threads)
        pending.state = self._table(round_id)[pending.state, "open"]
        del self._pending[round_id.kind, round_id.scope]
        return pending

    def _begin(self, tally: Tally) -> Pending:
        if tally.terms.id.kind == "score":
            return super()._begin(tally)
        contributors = tally.terms.contributors
        return _Shared(tally, circle=Circle(self._t0, contributors, graph_of(len(contributors), self.policy.colluders)))

    def _table(self, round_id: RoundId) -> Table[Sum]:
        return super()._table(round_id) if round_id.kind == "score" else RESILIENT_AT_COORDINATOR

    def _shared(self, round_id: RoundId, event: str) -> _Shared:
        if round_id.kind == "score":
            raise local("score_needs_all")
        pending = self._current(round_id, event)
        if not isinstance(pending, _Shared):
            raise local("wrong_round")
        return pending


def _owners(pending: _Shared, party: str) -> tuple[str, ...]:
    """The survivors whose holder ``party`` is."""
    return tuple(p for p in pending.circle.holders(party) if p in pending.survivors)


def _sealed_for(pending: _Shared, party: str) -> Items:
    owners = _owners(pending, party)
    return tuple((p, pending.sealed[p][party]) for p in owners if party in pending.sealed[p])


def _cut(pending: _Shared, owner: str) -> tuple[str, ...]:
    """The owner's neighbours that were dropped, in wire order."""
    return tuple(p for p in pending.circle.neighbours(owner) if p not in pending.survivors)


def _checks(pending: _Shared, owner: str) -> list[bytes]:
    """Those of the owner's seed and of its pads with the dropped, in the order in which they are revealed."""
    given = [pending.checks[owner][at : at + CHECK] for at in range(0, len(pending.checks[owner]), CHECK)]
    ends = zip(pending.circle.neighbours(owner), given[1:], strict=True)
    return [given[0], *(c for p, c in ends if p not in pending.survivors)]


def _noise(pending: _Shared) -> list[Pad]:
    """What is to be added to the sum: each survivor's self mask and its pads with the dropped, signs turned.

    Raises RemoteProtocolError: missing_member where fewer than ``threshold`` holders revealed, bad_share.
    """
    pads: list[Pad] = []
    for owner in pending.survivors:
        given = {pending.circle.point(p): r[owner] for p, r in pending.revealed.items() if owner in r}
        cut, secrets = _cut(pending, owner), []
        for at, expected in enumerate(_checks(pending, owner)):
            shares = {x: data[at * shamir.SIZE : (at + 1) * shamir.SIZE] for x, data in given.items()}
            secrets.append(shamir.combine(shares, pending.circle.graph.threshold))
            if check(secrets[-1], pending.tally.terms.h) != expected:
                raise remote("bad_share", f"of the secrets of party {owner!r}")
        pads.append((self_key(secrets[0], pending.tally.terms.h), -1))
        mine = party_wire_id(owner)
        pads += [(key, -1 if mine < party_wire_id(p) else 1) for p, key in zip(cut, secrets[1:], strict=True)]
    return pads
