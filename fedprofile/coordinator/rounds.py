"""One training from the first key to the opened scores, as a generator that knows no transport.

``conduct`` yields {party id: request bytes} and is sent {party id: reply bytes}. The stages, in order: approve the
plan, finish what a crash interrupted, agree keys, align customers, release labels, count shared bins, train in rounds,
weigh, sum the scores, finish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from safetensors.numpy import save

from fedprofile.acknowledging import Acknowledgement
from fedprofile.aggregation import (
    META,
    check_weight,
    counts_layout,
    delta_layout,
    gain_layout,
    next_shared,
    round_clip,
    score_layout,
    update_layout,
)
from fedprofile.coordinator.aligning import align
from fedprofile.coordinator.audit import CoordinatorLog, failed
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.holdings import Holdings
from fedprofile.coordinator.job import Job
from fedprofile.coordinator.opening import TOO_FEW, open_sums, reopen_sums
from fedprofile.coordinator.talk import Conversation, Talk
from fedprofile.coordinator.uniting import pass_on, unite_all
from fedprofile.coordinator.wire import Wire
from fedprofile.crash import crash_at
from fedprofile.errors import NodeFailed, ProtocolError, RemoteProtocolError
from fedprofile.governance.audit_coordinator import Failed, Started
from fedprofile.messages import PENDING, Envelope
from fedprofile.models.features import FeatureMap
from fedprofile.models.grid import features_from_counts
from fedprofile.models.layout import first_encoder, first_shared, layer_names, shared_shapes
from fedprofile.secagg.identity import verify
from fedprofile.secagg.resilient_server import ResilientServer
from fedprofile.secagg.server import ServerSession
from fedprofile.secagg.setup_messages import is_hybrid
from fedprofile.types import Kind, Layout, Opened, Progress, RoundId, Weights, canonical

logger = logging.getLogger(__name__)
Exchange = Generator[dict[str, bytes], dict[str, bytes], "Outcome"]


@dataclass(frozen=True)
class Watch:
    """Who is told about progress; callbacks see sums only.

    ``pending`` is told who has not approved the plan yet, and returns when it is time to ask again; None: no waiting.
    """

    progress: Callable[[Progress], None] = lambda _: None
    round: Callable[[int, dict[str, float]], None] = lambda _t, _values: None
    pending: Callable[[tuple[str, ...]], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves at the coordinator: shared weights, round sums, what every opening hid, the wire."""

    shared: Weights = field(repr=False)
    encoders: dict[str, Weights] = field(repr=False)
    summaries: list[dict[str, float]]
    openings: list[dict[str, str | int]]
    wire: Wire


RENEWABLE = frozenset({"need_setup", "setup_reused", "wrong_state", "already_contributed", "stale_round"})
"""What a node says whose process was started again, or that was asked twice because its answer was lost on the way."""
RENEWALS = 8
"""A node allows ten key agreements a run."""


def conduct(job: Job, store: CheckpointStore, watch: Watch, log: CoordinatorLog | None = None) -> Exchange:
    """Raises NodeFailed, TrainingDiverged or a ProtocolError; nothing is opened after the last failure. DataError or
    OSError where the coordinator's audit log, if it keeps one, does not hold.

    A node that has lost its keys makes all agree new ones, and the round is retried as after a restart of the
    coordinator: the same integers under new masks (secure-sum 9.3).
    """
    for _ in range(RENEWALS):
        try:
            return (yield from _conduct(job, store, watch, log))
        except NodeFailed as failure:
            if failure.code not in RENEWABLE:
                raise
            logger.warning("%s; agreeing new keys", failure)
            if log is not None:
                log.write(failed(job.plan.run_id, failure, renewed=True))
    return (yield from _conduct(job, store, watch, log))


def _conduct(job: Job, store: CheckpointStore, watch: Watch, log: CoordinatorLog | None) -> Exchange:
    run = _Run(job, store, watch, log)
    run.audit.write(Started(job.plan.run_id.hex(), run.attempt, run.state.t))
    yield from run.approve()
    yield from run.reopen()
    yield from run.agree_keys()
    yield from run.align()
    yield from run.release_labels()
    yield from run.count_bins()
    yield from run.train()
    yield from run.score()
    yield from run.finish()
    state = run.state
    return Outcome(state.shared, state.encoders, state.summaries, state.openings, run.wire)


class _Run(Holdings):
    def __init__(self, job: Job, store: CheckpointStore, watch: Watch, log: CoordinatorLog | None) -> None:
        super().__init__(job, store, log)
        self.watch = watch
        self.attempt = self.state.setups - 1
        self.resilient = job.profile == "resilient"
        self.session = (ResilientServer if self.resilient else ServerSession)(
            self.plan.run_id,
            self.roster,
            job.policy,
            self.everyone,
            job.profile,
            schema_hash=self.plan.hash,
            setup=self.attempt,
            hybrid=is_hybrid(job.kem),
        )
        self.features: dict[str, FeatureMap] = {}
        self.ask = Conversation(self.roster, self.wire, layer_names(self.plan.tasks, self.plan.learning)).ask

    def ask_all(self, envelope: Envelope) -> Talk:
        return self.ask(dict.fromkeys(self.everyone, envelope))

    # -- stages ----------------------------------------------------------------------------------
    def approve(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        self.watch.progress(Progress("approve"))
        body = {
            "plan": self.plan.to_json().decode(),
            "profile": self.job.profile,
            "roster": self.roster.to_json(),
        }
        waiting = self.everyone
        while waiting:
            replies = yield from self.ask(dict.fromkeys(waiting, Envelope("plan", body)))
            waiting = tuple(p for p, reply in replies.items() if reply.type == PENDING)
            for party in replies.keys() - set(waiting):
                self._check_approval(party, replies[party])
            if waiting and self.watch.pending is None:
                raise NodeFailed(waiting[0], PENDING)
            if waiting and self.watch.pending is not None:
                self.watch.pending(waiting)

    def _check_approval(self, party: str, reply: Envelope) -> None:
        try:
            verify(self.roster.party(party).sign_pk, "approval", self.plan.hash, reply.parts[0])
        except RemoteProtocolError:
            raise NodeFailed(party, "bad_approval") from None

    def reopen(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """Open what was being opened when the last process ended: first, since new keys end those it hangs on.

        What no longer opens is lost where it is a round, and the next one follows. Counts and gains are asked for
        again, which nodes that agreed to a set refuse ("agreed_before"): then the run is over.
        """
        if not self.state.suspended or not isinstance(self.session, ResilientServer):
            return
        t = self.session.resume(self.state.suspended[0]).t
        try:
            sums = yield from reopen_sums(self.session, self.ask, self.state.suspended, self._suspend)
        except ProtocolError as error:
            if error.code not in TOO_FEW:
                raise
            sums = {}
        training = 1 <= t <= self.plan.learning.rounds
        if not sums:
            self.audit.write(Failed(self.plan.run_id.hex(), "too_few_survivors", t=t))
            self.state.lost = t if training else self.state.lost
            self._suspend(())
        elif training:
            self._take_round(t, sums)
        else:
            (self._take_gains if t else self._take_counts)(next(iter(sums.values())))

    def agree_keys(self) -> Talk:
        self.watch.progress(Progress("keys"))
        ads = yield from self.ask_all(Envelope("setup", parts=(self.session.setup_request(self._next_t()),)))
        bundle = self.session.key_bundle({p: r.parts[0] for p, r in ads.items()})
        opens = yield from self.ask_all(Envelope("key-bundle", parts=(bundle,)))
        opened = self.session.open_bundle({p: r.parts[0] for p, r in opens.items()})
        if not self.session.hybrid:
            return (yield from self.ask_all(Envelope("open-bundle", parts=(opened,))))
        own = {p: Envelope("open-bundle", parts=(self.session.open_bundle_for(p),)) for p in self.everyone}
        return (yield from self.ask(own))

    def align(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """Once a run; the spine binds every later round."""
        if self.state.spine_size == 0:
            self.watch.progress(Progress("align"))
            if self.plan.align == "union":
                fact, self.state.passed = yield from unite_all(self.ask, self.plan, self.roster)
            else:
                fact = yield from align(self.ask, self.plan, self.roster)
            self.state.spine_size, self.state.spine_hash = fact.size, fact.hash.hex()
            self._keep()

    def release_labels(self) -> Talk:
        """Carry sealed labels from their owner to each node; the coordinator cannot open them."""
        if self.state.released:
            return {}
        self.watch.progress(Progress("release"))
        reply = (yield from self.ask({self.owner: Envelope("release-request")}))[self.owner]
        sealed = dict(zip(self.everyone, reply.parts, strict=True))
        stored = yield from self.ask({p: Envelope("release", parts=(sealed[p],)) for p in self.everyone})
        self.state.released = True
        self._keep()
        return stored

    def count_bins(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """Sum the histograms that fix the features which members of one role share."""
        for role in self.roles:
            schema = self.plan.schemas[role]
            if role not in self.state.counts:
                self.watch.progress(Progress("stats"))
                members = self._members(role)
                layout = counts_layout(schema, len(members))
                self._take_counts((yield from self._sum("stats", role, 0, members, layout, b"", keep=f"stats/{role}")))
            # on every start: a member that was lost before it held them would otherwise never get them
            relayed = self.state.uploads.get(f"stats/{role}", ())
            bins = Envelope("bins", parts=(save(self.state.counts[role]), *relayed))
            yield from self.ask(dict.fromkeys(self._members(role), bins))
            self.features[role] = features_from_counts(schema, self.state.counts[role])

    def train(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        plan = self.plan.learning
        if not self.state.shared:
            self.state.shared = self.store.start() if self.plan.start else first_shared(self.plan)
            for role in self.roles:
                self.state.encoders[role] = first_encoder(self.plan, role, self.features[role].width)
        for t in range(self._settled() + 1, plan.rounds + 1):
            yield from self._round(t)

    def score(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """Let the label owner open the sum of the partners' scores, weighed by what each saves."""
        last = self.plan.learning.rounds
        if not self.state.means:
            yield from self._weigh(last)
        yield from self._catch_up(last)
        self.watch.progress(Progress("scores", last, last))
        layout = score_layout(self.state.spine_size, sum(t.outputs for t in self.plan.tasks))
        round_id = RoundId(self.plan.run_id, "score", "", last + 2, self.attempt, self.owner)
        self._look()
        request = self._request(round_id, self.everyone, layout, canonical(self.state.means))
        uploads = yield from self.ask(self._rounds(self.partners, lambda _role: (request,)))
        total = self.session.masked_sum(round_id, {p: r.parts[0] for p, r in uploads.items()})
        parts = (
            (request, total) if self.state.passed is None else pass_on(request, total, self.state.passed, self.roster)
        )
        self.audit.write(self._summed(round_id, self.everyone, sha256(total).hexdigest(), opener=self.owner))
        body = self.audit.body(self.audit.since(self.owner))
        yield from self.ask({self.owner: Envelope("score-sum", body, parts)})
        self._opened("score", "", self.everyone, self.owner)

    def _catch_up(self, last: int) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """Partners away when gains were summed get that request again, to judge their scores by the last weights.

        What they upload is dropped: it could open only with members who have agreed to the sum without it.
        """
        if not self.state.late:
            return
        round_id = RoundId(self.plan.run_id, "stats", "", last + 1, self.attempt + 1)
        self._look()
        request = self._request(round_id, self.everyone, gain_layout(self.plan.tasks), self._final_hashes())
        yield from self.ask(self._rounds(self.state.late, lambda role: (request, *self._final_models(role))))
        self.state.late = []
        self._keep()

    def _weigh(self, last: int) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """The mean over nodes of what their scores save a task: the yardstick of each node's weight."""
        self.watch.progress(Progress("weights", last, last))
        layout, model = gain_layout(self.plan.tasks), self._final_hashes()
        self._take_gains(
            (yield from self._sum("stats", "", last + 1, self.everyone, layout, model, self._final_models))
        )

    def finish(self) -> Talk:
        """Partners say which encoder each keeps; the label owner takes their words and the shared model home.

        Every node forgets its session keys. Asked again after a crash, partners say the same.
        """
        replies = yield from self.ask(dict.fromkeys(self.partners, Envelope("finish")))
        words = {party: self._acknowledged(party, reply) for party, reply in replies.items()}
        shared = self.state.shared if self.plan.learning.share == "all" else {}
        return (yield from self.ask({self.owner: Envelope("finish", {"acknowledged": words}, (save(shared),))}))

    def _acknowledged(self, party: str, reply: Envelope) -> dict[str, str]:
        said = {"digest": reply.body["encoder"], "signature": reply.parts[0].hex()}
        try:
            return Acknowledgement.checked(said, party, self.roster, self.plan.hash).to_json()
        except RemoteProtocolError as error:
            raise NodeFailed(party, error.code) from None

    # -- one sum ---------------------------------------------------------------------------------
    def _round(self, t: int) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        plan, members = self.plan.learning, len(self.everyone)
        shapes = shared_shapes(self.plan.tasks, plan) if plan.share == "all" else {}
        whole = RoundId(self.plan.run_id, "update", "", t, self.attempt)
        self._look()
        layout = update_layout(shapes, plan, self.plan.tasks, t, members)
        update = self._request(whole, self.everyone, layout, self._model(""))
        inside = {role: RoundId(self.plan.run_id, "role", role, t, self.attempt) for role in self.roles}
        encoders = {role: self._encoder_request(id, t) for role, id in inside.items()}

        def parts(role: str) -> tuple[bytes, ...]:
            return (update, *filter(None, [encoders.get(role)]), *self._relayed(role))

        replies = yield from self.ask(self._rounds(self.everyone, parts), self.resilient)
        uploads = {whole: {p: r.parts[0] for p, r in replies.items()}}
        for role, id in inside.items():
            uploads[id] = {p: replies[p].parts[1] for p in self._members(role) if p in replies}
        sums = yield from self._open(uploads, whole)
        self.state.uploads = {}
        if plan.share == "all":
            self._keep_uploads("update", sums[whole], uploads[whole])
        for role, id in ((role, id) for role, id in inside.items() if id in sums):
            self._keep_uploads(f"role/{role}", sums[id], uploads[id])
        self._take_round(t, sums)

    # -- what an opened sum changes ----------------------------------------------------------------
    def _take_round(self, t: int, sums: Mapping[RoundId, Opened]) -> None:
        opened = next(o for id, o in sums.items() if id.kind == "update")
        check_weight(opened.values)
        self._log_sums(*sums.values())
        self._opened("update", "", opened.members, "")
        for deltas in (o for id, o in sums.items() if id.kind == "role"):
            role = deltas.round.scope
            self.state.encoders[role] = next_shared(self.state.encoders[role], deltas.values, len(deltas.members))
            self._opened("role", role, deltas.members, "")
        if self.plan.learning.share == "all":
            self.state.shared = next_shared(self.state.shared, opened.values, len(opened.members))
        self._summarise(t, opened)

    def _encoder_request(self, id: RoundId, t: int) -> bytes:
        members = self._members(id.scope)
        shapes = {n: w.shape for n, w in self.state.encoders[id.scope].items()}
        layout = delta_layout(shapes, round_clip(self.plan.learning, t), len(members))
        return self._request(id, members, layout, self._model(id.scope))

    def _sum(
        self,
        kind: Kind,
        scope: str,
        t: int,
        cohort: tuple[str, ...],
        layout: Layout,
        model: bytes,
        extra: Callable[[str], tuple[bytes, ...]] = lambda _role: (),
        keep: str = "",
    ) -> Generator[dict[str, bytes], dict[str, bytes], Opened]:
        """One sum that the coordinator opens; ``extra`` parts of a role must be bound by ``model``, or be signed."""
        round_id = RoundId(self.plan.run_id, kind, scope, t, self.attempt)
        self._look()
        request = self._request(round_id, cohort, layout, model)
        replies = yield from self.ask(self._rounds(cohort, lambda role: (request, *extra(role))), self.resilient)
        uploads = {p: r.parts[0] for p, r in replies.items()}
        sums = yield from self._open({round_id: uploads}, round_id)
        if round_id not in sums:
            raise RemoteProtocolError("too_few_survivors", scope)
        if keep:
            self._keep_uploads(keep, sums[round_id], uploads)
        return sums[round_id]

    def _open(
        self, uploads: Mapping[RoundId, Mapping[str, bytes]], widest: RoundId
    ) -> Generator[dict[str, bytes], dict[str, bytes], dict[RoundId, Opened]]:
        """All audit heads are in the uploads of ``widest``; what is suspended holds them, to bind what follows."""

        def keep(held: tuple[bytes, ...]) -> None:
            self._take_heads(uploads[widest])
            self._suspend(held)

        sums = yield from open_sums(self.session, self.ask, uploads, keep)
        self._take_heads(uploads[widest])
        return sums

    def _look(self) -> None:
        """Before the requests of one exchange: they are bound to the same heads, the coordinator's own among them."""
        self.audit.look(self._audit_root())

    def _request(self, round_id: RoundId, cohort: tuple[str, ...], layout: Layout, model: bytes) -> bytes:
        spine = bytes.fromhex(self.state.spine_hash)
        head = self.audit.root
        return self.session.round(
            round_id, cohort, layout, model, spine_hash=spine, bundle_hash=self.plan.hash, audit_head=head
        )

    def _rounds(self, parties: Iterable[str], parts: Callable[[str], tuple[bytes, ...]]) -> dict[str, Envelope]:
        """The requests by party: ``parts`` of its role, and of the log what it may not have been shown yet.

        Parties that get the same share one envelope, which is encoded once.
        """
        whats = {p: (self.roster.party(p).role, self.audit.since(p)) for p in parties}
        made = {w: Envelope("round", self.audit.body(w[1]), parts(w[0])) for w in set(whats.values())}
        return {p: made[what] for p, what in whats.items()}

    def _summarise(self, t: int, opened: Opened) -> None:
        nodes, rows, saturated, *losses = (float(v) for v in opened.values[META])
        values = {f"loss.{task.name}": loss / nodes for task, loss in zip(self.plan.tasks, losses, strict=True)}
        values |= {"nodes": nodes, "rows": rows, "saturated": saturated}
        self.state.t = t
        self.state.summaries.append({"t": float(t), **values})
        crash_at("summed")
        self._suspend(())
        self.watch.round(t, values)
        mean = sum(losses) / nodes / len(losses)
        self.watch.progress(Progress("rounds", t, self.plan.learning.rounds, mean))
