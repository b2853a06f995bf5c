"""The bank's node: a node that also releases labels and alone opens the sums of scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedprofile.acknowledging import all_checked
from fedprofile.aggregation import SCORES
from fedprofile.alignment.hashing import TRAIN_BELOW, VALID_BELOW, split_bucket
from fedprofile.alignment.psi import read_views, split
from fedprofile.alignment.union import NAME
from fedprofile.errors import RemoteProtocolError
from fedprofile.label_owner.aligning import OwnerAligning
from fedprofile.label_owner.home import read_fold, read_labels, read_membership
from fedprofile.label_owner.release import fill, fingerprint, release_labels, restrict
from fedprofile.messages import Envelope
from fedprofile.node.consent import bind, remember_trained
from fedprofile.node.encoders import keep_acknowledged
from fedprofile.node.heads import Told, take_heads
from fedprofile.node.home import NodeHome
from fedprofile.node.membership import pinned_roster
from fedprofile.node.party import SIGNED_RELEASE, Node, only_part
from fedprofile.node.recompute import check_final
from fedprofile.node.rounds import tensors
from fedprofile.node.run import NodeRun
from fedprofile.node.uniting import UNION
from fedprofile.privacy.sealing import LabelRelease, seal
from fedprofile.secagg.client import Sums
from fedprofile.secagg.codes import refusal
from fedprofile.types import RunPlan

SCORE_SUM = "score_sum.safetensors"
OPENING = "opening.safetensors"
"""A sum of scores that the journal may not call open yet."""
SHARED_MODEL = "shared.safetensors"
CONCLUDED = "concluded"


class LabelOwnerNode(Node):
    """Adds what only the label owner is asked: make the spine, seal a label release for every node, open a sum."""

    def __init__(self, home: NodeHome) -> None:
        super().__init__(home)
        self.handlers |= {
            "align-spine": self._align_spine,
            "align-views": self._align_views,
            "release-request": self._release,
            "score-sum": self._open_scores,
        }
        for partners_only in ("align", "align-match", "align-store"):
            del self.handlers[partners_only]

    def _begin_run(self, plan: RunPlan) -> None:
        """Raises PolicyRefusal("not_concluded") where the last training ended here and nobody has fused its model."""
        if unconcluded(self.home):
            raise refusal("not_concluded")
        super()._begin_run(plan)

    def _align_spine(self, envelope: Envelope) -> Envelope:
        fact, parts = self._aligning(OwnerAligning).spine(envelope.parts)
        return Envelope("spine", fact.to_body(), parts)

    def _align_views(self, envelope: Envelope) -> Envelope:
        return Envelope("views", parts=self._aligning(OwnerAligning).views(envelope.parts))

    def _release(self, _: Envelope) -> Envelope:
        run, session = self.run, self.keeper.current
        release = self._released(run)
        copies = self._to_union(run, release) if run.plan.align == "union" else self._to_each(run, release)
        parts = []
        for party in self.roster.parties:
            mine = copies[party.id]
            plain = mine.encode(run.plan.tasks)
            sealed = seal(plain, session.peer_seal_key(party.id), run.plan.hash, party.id)
            parts.append(sealed + self.identity.sign(SIGNED_RELEASE, sealed))
            self.journal.append({"event": "released", "to": party.id, "customers": len(mine.slots)})
        return Envelope("labels", parts=tuple(parts))

    def _released(self, run: NodeRun) -> LabelRelease:
        rows = run.spine.rows
        labels = {name: values[rows] for name, values in read_labels(self.home, run.plan.tasks).items()}
        bucket, permitted = split_bucket(run.table.ids, read_fold(self.home)), run.permitted("label_release")
        train = (bucket < TRAIN_BELOW) & permitted
        bind(self.home, "release", 0, run.spine.slots[train])
        used = run.table.ids[(bucket < VALID_BELOW) & permitted]
        remember_trained(self.home, run.plan, run.permit, used)
        return release_labels(run.table.ids, labels, train, run.spine, run.plan, self.home.derive("labels"))

    def _to_each(self, run: NodeRun, release: LabelRelease) -> dict[str, LabelRelease]:
        """To each partner what is about its own customers."""
        membership = read_membership(self.home).known
        return {p: restrict(release, known, run.plan) for p, known in membership.items()} | {self.me: release}

    def _to_union(self, run: NodeRun, release: LabelRelease) -> dict[str, LabelRelease]:
        """To all partners the same, for every slot. Told twice for other customers, they could see whose labels stay.

        Raises PolicyRefusal("union_release_changed").
        """
        fold = read_fold(self.home)
        released = run.table.ids[np.isin(run.spine.slots, release.slots)]
        mark = fingerprint(released, release, self.roster.hash, fold).hex()
        held = {e["release"] for e in self.journal if e["event"] == "union-release"}
        if held - {mark}:
            raise refusal("union_release_changed")
        if not held:
            self.journal.append({"event": "union-release", "release": mark})
        names = split(self.home.read(UNION) or b"", NAME)
        full = fill(release, names, self.home.derive("union-labels"), fold)
        return {p.id: release if p.id == self.me else full for p in self.roster.parties}

    def _open_scores(self, envelope: Envelope) -> Envelope:
        """Open the sum once and keep it; asked again after a crash, what was opened stays as it is.

        It is on disk before the journal says that it is open, so that a full disk or a crash loses no opened sum, and
        counts only afterwards. In a union it comes with one bit a slot: of which slots the coordinator has passed the
        sum on.
        """
        united = self.run.plan.align == "union"
        if len(envelope.parts) != 2 + united:
            raise RemoteProtocolError("bad_envelope", "a score sum comes with its request")
        if self.home.has(SCORE_SUM):
            return Envelope("opened")
        if not (self.home.has(OPENING) and self._was_opened()):
            session = self.keeper.current
            request = session.verify_round(envelope.parts[0])
            take_heads(self.run, Told(self.audit, envelope.body), request)
            size = self.run.alignment.size
            passed = read_views(envelope.parts[2], size) if united else np.ones(size, dtype=np.bool_)
            unpermitted = self._unpermitted()

            def keep(opened: Sums) -> None:
                sums = opened[SCORES].astype(np.float32)
                sums[~passed] = 0
                sums[unpermitted] = 0
                self.home.write_arrays(OPENING, {"sums": sums, "passed": passed.astype(np.uint8)})

            session.open_sum(envelope.parts[1], request, keep)
        self.home.rename(OPENING, SCORE_SUM)
        return Envelope("opened")

    def _was_opened(self) -> bool:
        """Whether the journal says that the run's sum is open, which a crash may have kept from its name."""
        run = self.run.plan.run_id.hex()
        return any((e["event"], e.get("run"), e.get("kind")) == ("open", run, "score") for e in self.journal)

    def _unpermitted(self) -> npt.NDArray[np.int64]:
        """Slots of customers whom this node may not score any more; nobody keeps what others said of them."""
        run = self.run
        return np.setdiff1d(run.alignment.slots, run.spine.slots[run.permitted("score")])

    def _finish(self, envelope: Envelope) -> Envelope:
        if not envelope.parts:
            raise RemoteProtocolError("no_model", "the label owner takes the shared model home")
        model = only_part(envelope)
        if self.run.plan.recompute:
            check_final(self.run, tensors(model))
        words = all_checked(envelope.body.get("acknowledged"), self.roster, self.run.plan.hash)
        self.home.write(SHARED_MODEL, model)
        keep_acknowledged(self.home, self.run.plan.hash, words)
        self._end_run()
        return Envelope("finished")


def unconcluded(home: NodeHome) -> bytes | None:
    """The plan of the home's last training where that has ended, and neither was concluded nor dropped."""
    ended = home.has(SCORE_SUM) and home.has(SHARED_MODEL)
    return home.read("plan.json") if ended and not home.has(CONCLUDED) else None


def mark_concluded(home: NodeHome) -> None:
    """From now on the next plan may take the place of the home's last training."""
    home.write(CONCLUDED, b"")


def open_node(path: Path) -> Node:
    """The node that lives in a home: a label owner's or a partner's."""
    home = NodeHome(path)
    roster = pinned_roster(home)
    owner = roster.label_owner if roster else home.config.label_owner
    return LabelOwnerNode(home) if home.config.party == owner else Node(home)
