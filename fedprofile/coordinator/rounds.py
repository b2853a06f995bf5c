"""One training from the first key to the opened scores, as a generator that knows no transport.

``conduct`` yields {party id: request bytes} and is sent {party id: reply bytes}. The stages, in order: approve the
plan, agree keys, align customers, release labels, count shared bins, train in rounds, weigh, sum the scores, finish.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from hashlib import sha256

from safetensors.numpy import save

from fedprofile.aggregation import (
    GAINS,
    META,
    counts_layout,
    delta_layout,
    gain_layout,
    next_shared,
    round_clip,
    score_layout,
    update_layout,
)
from fedprofile.coordinator.aligning import align
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.job import Job
from fedprofile.coordinator.opening import Opening, open_sums
from fedprofile.coordinator.talk import Conversation, Talk
from fedprofile.coordinator.uniting import pass_on, unite_all
from fedprofile.coordinator.wire import Wire
from fedprofile.errors import NodeFailed, RemoteProtocolError
from fedprofile.messages import Envelope
from fedprofile.models.features import FeatureMap
from fedprofile.models.grid import features_from_counts
from fedprofile.models.layout import first_encoder, first_shared, shared_shapes
from fedprofile.secagg.identity import verify
from fedprofile.secagg.policy import hidden, tolerance
from fedprofile.secagg.resilient_server import ResilientServer
from fedprofile.secagg.server import ServerSession
from fedprofile.types import Kind, Layout, Opened, Progress, RoundId, Weights, canonical

Exchange = Generator[dict[str, bytes], dict[str, bytes], "Outcome"]


@dataclass(frozen=True)
class Watch:
    """Who is told about progress; both callbacks see sums only."""

    progress: Callable[[Progress], None] = lambda _: None
    round: Callable[[int, dict[str, float]], None] = lambda _t, _values: None


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves at the coordinator: shared weights, round sums, what every opening hid, the wire."""

    shared: Weights = field(repr=False)
    encoders: dict[str, Weights] = field(repr=False)
    summaries: list[dict[str, float]]
    openings: list[dict[str, str | int]]
    wire: Wire


def conduct(job: Job, store: CheckpointStore, watch: Watch) -> Exchange:
    """Raises NodeFailed, TrainingDiverged or a ProtocolError; nothing is opened after the first failure."""
    run = _Run(job, store, watch)
    yield from run.approve()
    yield from run.agree_keys()
    yield from run.align()
    yield from run.release_labels()
    yield from run.count_bins()
    yield from run.train()
    yield from run.score()
    yield from run.finish()
    state = run.state
    return Outcome(state.shared, state.encoders, state.summaries, state.openings, run.wire)


class _Run:
    def __init__(self, job: Job, store: CheckpointStore, watch: Watch) -> None:
        self.job, self.store, self.watch = job, store, watch
        self.plan, self.roster = job.plan, job.roster
        self.everyone = tuple(p.id for p in self.roster.parties)
        self.owner = self.roster.label_owner
        self.partners = tuple(p for p in self.everyone if p != self.owner)
        self.roles = tuple(sorted(self.plan.schemas))
        self.state = store.load()
        self.state.setups += 1
        self.wire = Wire(**self.state.wire)
        self._keep()
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
        )
        self.features: dict[str, FeatureMap] = {}
        self.ask = Conversation(self.roster, self.wire).ask

    def ask_all(self, envelope: Envelope) -> Talk:
        return self.ask(dict.fromkeys(self.everyone, envelope))

    def _keep(self) -> None:
        """What a restarted coordinator goes on from."""
        self.state.wire = asdict(self.wire)
        self.store.save(self.state)

    # -- stages ----------------------------------------------------------------------------------
    def approve(self) -> Talk:
        self.watch.progress(Progress("approve"))
        body = {
            "plan": self.plan.to_json().decode(),
            "profile": self.job.profile,
        }
        approvals = yield from self.ask_all(Envelope("plan", body))
        for party, reply in approvals.items():
            try:
                verify(self.roster.party(party).sign_pk, "approval", self.plan.hash, reply.parts[0])
            except RemoteProtocolError:
                raise NodeFailed(party, "bad_approval") from None
        return approvals

    def agree_keys(self) -> Talk:
        self.watch.progress(Progress("keys"))
        ads = yield from self.ask_all(Envelope("setup", parts=(self.session.setup_request(self._next_t()),)))
        bundle = self.session.key_bundle({p: r.parts[0] for p, r in ads.items()})
        opens = yield from self.ask_all(Envelope("key-bundle", parts=(bundle,)))
        opened = self.session.open_bundle({p: r.parts[0] for p, r in opens.items()})
        return (yield from self.ask_all(Envelope("open-bundle", parts=(opened,))))

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
                opened = yield from self._sum(
                    "stats", role, 0, members, counts_layout(schema, len(members)), b"", keep=f"stats/{role}"
                )
                self.state.counts[role] = {c: opened.values[f"count.{c}"] for c in schema.columns}
                self._keep()
            # on every start: a member that was lost before it held them would otherwise never get them
            relayed = self.state.uploads.get(f"stats/{role}", ())
            bins = Envelope("bins", parts=(save(self.state.counts[role]), *relayed))
            yield from self.ask(dict.fromkeys(self._members(role), bins))
            self.features[role] = features_from_counts(schema, self.state.counts[role])

    def train(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        plan = self.plan.learning
        if not self.state.shared:
            self.state.shared = first_shared(self.plan)
            for role in self.roles:
                self.state.encoders[role] = first_encoder(self.plan, role, self.features[role].width)
        for t in range(self._settled() + 1, plan.rounds + 1):
            yield from self._round(t)

    def score(self) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """Let the label owner open the sum of the partners' scores, weighed by what each saves."""
        last = self.plan.learning.rounds
        if not self.state.means:
            yield from self._weigh(last)
        self.watch.progress(Progress("scores", last, last))
        layout = score_layout(self.state.spine_size, sum(t.outputs for t in self.plan.tasks))
        round_id = RoundId(self.plan.run_id, "score", "", last + 2, self.attempt, self.owner)
        request = self._request(round_id, self.everyone, layout, canonical(self.state.means))
        uploads = yield from self.ask(dict.fromkeys(self.partners, Envelope("round", parts=(request,))))
        total = self.session.masked_sum(round_id, {p: r.parts[0] for p, r in uploads.items()})
        parts = (
            (request, total) if self.state.passed is None else pass_on(request, total, self.state.passed, self.roster)
        )
        yield from self.ask({self.owner: Envelope("score-sum", parts=parts)})
        self._opened("score", "", self.everyone, self.owner)

    def _weigh(self, last: int) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        """The mean over nodes of what their scores save a task: the yardstick of each node's weight."""
        self.watch.progress(Progress("weights", last, last))
        hashes = {role: sha256(self._model(role)).hexdigest() for role in ("", *self.roles)}
        layout = gain_layout(self.plan.tasks)
        gains = yield from self._sum(
            "stats", "", last + 1, self.everyone, layout, canonical(hashes), self._final_models
        )
        sums = zip(self.plan.tasks, gains.values[GAINS], strict=True)
        self.state.means = {t.name: float(v) / len(gains.members) for t, v in sums}
        self.state.uploads = {}
        self._keep()

    def finish(self) -> Talk:
        """The label owner takes the shared model home; every node forgets its session keys."""
        final = Envelope("finish", parts=(save(self.state.shared if self.plan.learning.share == "all" else {}),))
        return (yield from self.ask({p: final if p == self.owner else Envelope("finish") for p in self.everyone}))

    # -- one sum ---------------------------------------------------------------------------------
    def _round(self, t: int) -> Generator[dict[str, bytes], dict[str, bytes], None]:
        plan, members = self.plan.learning, len(self.everyone)
        shapes = shared_shapes(self.plan.tasks, plan) if plan.share == "all" else {}
        whole = RoundId(self.plan.run_id, "update", "", t, self.attempt)
        layout = update_layout(shapes, plan, self.plan.tasks, t, members)
        update = self._request(whole, self.everyone, layout, self._model(""))
        inside = {role: RoundId(self.plan.run_id, "role", role, t, self.attempt) for role in self.roles}
        encoders = {role: self._encoder_request(id, t) for role, id in inside.items()}
        by_role = {
            role: Envelope("round", parts=(update, *filter(None, [encoders.get(role)]), *self._relayed(role)))
            for role in {p.role for p in self.roster.parties}
        }
        replies = yield from self.ask({p.id: by_role[p.role] for p in self.roster.parties}, self.resilient)
        uploads = {whole: {p: r.parts[0] for p, r in replies.items()}}
        for role, id in inside.items():
            uploads[id] = {p: replies[p].parts[1] for p in self._members(role) if p in replies}
        sums = yield from self._open(uploads)
        self.state.uploads = {}
        opened = sums[whole]
        self._opened("update", "", opened.members, "")
        if plan.share == "all":
            self._keep_uploads("update", opened, uploads[whole])
        for role, id, deltas in ((role, id, sums[id]) for role, id in inside.items() if id in sums):
            self._keep_uploads(f"role/{role}", deltas, uploads[id])
            self.state.encoders[role] = next_shared(self.state.encoders[role], deltas.values, len(deltas.members))
            self._opened("role", role, deltas.members, "")
        if plan.share == "all":
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
        request = self._request(round_id, cohort, layout, model)
        roles = {p: self.roster.party(p).role for p in cohort}
        by_role = {role: Envelope("round", parts=(request, *extra(role))) for role in set(roles.values())}
        replies = yield from self.ask({p: by_role[role] for p, role in roles.items()}, self.resilient)
        uploads = {p: r.parts[0] for p, r in replies.items()}
        sums = yield from self._open({round_id: uploads})
        if round_id not in sums:
            raise RemoteProtocolError("too_few_survivors", scope)
        if keep:
            self._keep_uploads(keep, sums[round_id], uploads)
        self._opened(kind, scope, sums[round_id].members, "")
        return sums[round_id]

    def _open(self, uploads: dict[RoundId, dict[str, bytes]]) -> Opening:
        t = next(iter(uploads)).t

        def settle() -> None:
            self.state.asked = max(self.state.asked, min(t, self.plan.learning.rounds))
            self._keep()

        return (yield from open_sums(self.session, self.ask, uploads, settle))

    def _settled(self) -> int:
        """The last round that is opened, or lost: its nodes agreed to a set that nobody opened."""
        return max(self.state.t, self.state.asked)

    def _keep_uploads(self, slot: str, opened: Opened, uploads: dict[str, bytes]) -> None:
        """Kept until the next round is open: masked and signed, they are what nodes recompute this sum from."""
        if self.plan.recompute:
            self.state.uploads[slot] = tuple(uploads[p] for p in opened.members)

    def _relayed(self, role: str) -> tuple[bytes, ...]:
        """The uploads of the last round that a member of this role recomputes."""
        return self.state.uploads.get("update", ()) + self.state.uploads.get(f"role/{role}", ())

    def _request(self, round_id: RoundId, cohort: tuple[str, ...], layout: Layout, model: bytes) -> bytes:
        spine = bytes.fromhex(self.state.spine_hash)
        return self.session.round(round_id, cohort, layout, model, spine_hash=spine, bundle_hash=self.plan.hash)

    def _opened(self, kind: Kind, scope: str, cohort: tuple[str, ...], opener: str) -> None:
        """Book what an opening hid; equal openings are counted."""
        policy = self.job.policy
        row: dict[str, str | int] = {
            "kind": kind,
            "scope": scope,
            "opener": opener,
            "members": len(cohort),
            "hidden": hidden(cohort, self.owner, opener, policy.colluders),
            "tolerated_colluders": tolerance(cohort, self.owner, opener),
        }
        for known in self.state.openings:
            if all(known[k] == v for k, v in row.items()):
                known["count"] = int(known["count"]) + 1
                return
        self.state.openings.append(row | {"count": 1})

    def _next_t(self) -> int:
        """The first index that this key agreement serves: 0 for the counts, then the next round, last the scores."""
        if self.state.means:
            return self.plan.learning.rounds + 2
        counted = all(role in self.state.counts for role in self.roles)
        return self._settled() + 1 if counted else 0

    # -- weights ---------------------------------------------------------------------------------
    def _members(self, role: str) -> tuple[str, ...]:
        return tuple(p.id for p in self.roster.members(role))

    def _model(self, role: str) -> bytes:
        """Current weights on the wire: a role's encoder, or for "" what all share (nothing unless share=all).

        A role's encoder names the bins it was made for, so that members with other bins do not unmask.
        """
        if role:
            bins = sha256(save(self.state.counts[role])).hexdigest()
            return save(self.state.encoders[role], metadata={"bins": bins})
        return save(self.state.shared) if self.plan.learning.share == "all" else b""

    def _final_models(self, role: str) -> tuple[bytes, ...]:
        models = (self._model(""), self._model(role)) if role in self.roles else (self._model(""),)
        return models + self._relayed(role)

    def _summarise(self, t: int, opened: Opened) -> None:
        nodes, rows, saturated, *losses = (float(v) for v in opened.values[META])
        values = {f"loss.{task.name}": loss / nodes for task, loss in zip(self.plan.tasks, losses, strict=True)}
        values |= {"nodes": nodes, "rows": rows, "saturated": saturated}
        self.state.t = t
        self.state.summaries.append({"t": float(t), **values})
        self._keep()
        self.watch.round(t, values)
        mean = sum(losses) / nodes / len(losses)
        self.watch.progress(Progress("rounds", t, self.plan.learning.rounds, mean))
