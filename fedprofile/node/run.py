"""One run as one node lives it: plan, features, training, scores. Built from the home, so a restart rebuilds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fedprofile.aggregation import GAINS, SCORES, gain_layout, score_layout
from fedprofile.alignment.hashing import TRAIN_BELOW, cross_fit_fold, split_bucket, uniform
from fedprofile.errors import RemoteProtocolError
from fedprofile.governance.audit import Event, TableUsed
from fedprofile.governance.permits import Permit, Use
from fedprofile.models.features import FeatureMap, fit_features
from fedprofile.models.grid import features_from_counts, grid_counts
from fedprofile.models.layout import encoder_shapes, initial_weights, shared_shapes
from fedprofile.models.learner import LocalLearner
from fedprofile.models.partner_scorer import PartnerScorer
from fedprofile.models.partner_trees import partner_log_odds
from fedprofile.models.scores import weigh
from fedprofile.models.trees import Trees
from fedprofile.node.consent import ledger_head, permit_of, remember_trained, vault_of, withdraw, withdrawn
from fedprofile.node.home import NodeHome
from fedprofile.node.randomness import ByteSource, keystream_source
from fedprofile.node.scoring import place
from fedprofile.node.snapshot import contract_root, held_table, quality_figure
from fedprofile.node.source import now, read_permitted, restrict
from fedprofile.node.spine import SHARE, read_spine
from fedprofile.node.training import LocalTraining
from fedprofile.privacy.randomised_response import diluted, flip_matrix
from fedprofile.privacy.sealing import LabelRelease
from fedprofile.secagg.encoding import quantise
from fedprofile.types import MISSING_LABEL, Quantised, Roster, RunPlan, Spine, Table, Weights, canonical

_RELEASE, _FEATURES, _SCORES, _MEANS = "release.bin", "features.json", "scores.safetensors", "means.json"
_SCORER = "scorer.safetensors"
LEAST_SHARE = 1 / 32
"""Half of the smallest part that is told: a share that was rounded to none."""


class NodeRun:
    """Lazy parts: the table is read when the first stage needs it, through the permit; ``note`` is told of that."""

    def __init__(
        self,
        home: NodeHome,
        plan: RunPlan,
        roster: Roster,
        permit: Permit | None = None,
        note: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.home, self.plan, self.roster = home, plan, roster
        self._permit, self._note = permit, note
        self.me = home.config.party
        self.role = home.config.role
        self.shares_encoder = self.role in plan.schemas
        self.is_owner = self.me == roster.label_owner

    # -- the private side -------------------------------------------------------------------------
    @cached_property
    def _rows(self) -> tuple[Table, Spine]:
        file, categorical = held_table(self.home), frozenset(self.home.config.categorical)
        remaining = restrict(self.alignment, ~np.isin(self.alignment.rows, withdrawn(self.home)))
        table, spine = read_permitted(file, categorical, remaining, self.permit, "training", vault_of(self.home))
        withdraw(self.home, np.setdiff1d(remaining.rows, spine.rows))
        head, line = ledger_head(self.permit)
        facts = len(table), tuple(table.columns), contract_root(self.home.path), head, line
        figure = quality_figure(self.home.path)
        self._note(TableUsed(self.plan.run_id.hex(), self.plan.purpose, *facts, figure))
        return table, spine

    @property
    def permit(self) -> Permit:
        if self._permit is None:
            self._permit = permit_of(self.home, self.plan.purpose, self.roster.label_owner)
        return self._permit

    def permitted(self, use: Use) -> npt.NDArray[np.bool_]:
        """(m,) bool, by table row: whose permit covers a use of this run now."""
        return self.permit.allowed(self.table.ids, use, now())

    def narrow(self) -> int:
        """How many customers' permits ended since their rows were read; those leave the run, and this object with them.

        Nothing is read where no row was read yet.
        """
        if "_rows" not in self.__dict__:
            return 0
        gone = ~self.permitted("training") | np.isin(self.spine.rows, withdrawn(self.home))
        withdraw(self.home, self.spine.rows[gone])
        return int(gone.sum())

    @cached_property
    def alignment(self) -> Spine:
        """What the run's alignment gave, before any use is asked for. Raises RemoteProtocolError("no_spine")."""
        return read_spine(self.home)

    @property
    def spine(self) -> Spine:
        return self._rows[1]

    @cached_property
    def table(self) -> Table:
        """The node's own rows that stand in the spine, in the order of ``self.spine``."""
        return self._rows[0]

    def dither(self, purpose: str) -> ByteSource:
        """Rounding noise of one vector: the same for a retry, different for every other vector or plan."""
        return keystream_source(self.home.derive("dither", self.plan.basis, purpose.encode()))

    # -- labels -----------------------------------------------------------------------------------
    def store_release(self, data: bytes) -> None:
        """A release is frozen per run: a second, different one is refused."""
        held = self.home.read(_RELEASE)
        if held is not None and held != data:
            raise RemoteProtocolError("release_changed", "a run has one label release")
        release = LabelRelease.decode(data, self.plan.tasks)
        if release.eps != self.plan.label_eps:
            raise RemoteProtocolError("bad_release", "the release was not made at the plan's epsilon")
        if self._united != (release.fold is not None):
            raise RemoteProtocolError("bad_release", "the release is not of this plan's alignment")
        if self._united and not np.array_equal(release.slots, np.arange(self.alignment.size)):
            raise RemoteProtocolError("bad_release", "a union's release has a label for every slot")
        if not self._united and not np.isin(release.slots, self.alignment.slots).all():
            raise RemoteProtocolError("bad_release", "the release names customers outside this node's alignment")
        self.home.write(_RELEASE, data)

    @cached_property
    def _release(self) -> LabelRelease:
        data = self.home.read(_RELEASE)
        if data is None:
            raise RemoteProtocolError("no_release", "training was asked for before labels were released")
        return LabelRelease.decode(data, self.plan.tasks)

    def released(self) -> tuple[dict[str, npt.NDArray[np.int64]], npt.NDArray[np.bool_]]:
        """Labels by table row (m,), MISSING_LABEL elsewhere, and which rows are training rows."""
        row_of = np.full(self.alignment.size, -1, dtype=np.int64)
        row_of[self.spine.slots] = np.arange(len(self.spine.slots))
        rows = row_of[self._release.slots]
        own = rows >= 0  # a released customer may have left since, or be another's
        if self._release.fold is not None:
            own[own] = (split_bucket(self.table.ids, self._release.fold) < TRAIN_BELOW)[rows[own]]
        labels = {}
        for name, values in self._release.labels.items():
            labels[name] = np.full(len(self.spine.slots), MISSING_LABEL, dtype=np.int64)
            labels[name][rows[own]] = values[own]
        train = np.zeros(len(self.spine.slots), dtype=np.bool_)
        train[rows[own]] = True
        return labels, train

    @property
    def _united(self) -> bool:
        """Among this node's labels stand some of nobody: customers whom the label owner does not have."""
        return self.plan.align == "union" and not self.is_owner

    @property
    def _share(self) -> float:
        """The part of this node's labels that are of the customers they stand for, as the coordinator rounded it."""
        if not self._united:
            return 1.0
        return float(np.clip(float((self.home.read(SHARE) or b"1").decode()), LEAST_SHARE, 1.0))

    # -- stages -----------------------------------------------------------------------------------
    def counts(self) -> dict[str, npt.NDArray[np.float64]]:
        """Histograms (COUNT_BINS,) of the training rows a column."""
        schema = self.plan.schemas[self.role]
        if self.table.schema != schema:
            raise RemoteProtocolError("schema_mismatch", "the plan's columns are not this node's columns")
        _, train = self.released()
        counted = grid_counts(self.table, np.flatnonzero(train))
        return {f"count.{column}": counts.astype(np.float64) for column, counts in counted.items()}

    @cached_property
    def features(self) -> FeatureMap:
        """Fitted on the node's own training rows, or, in a role that shares its encoder, from the summed counts."""
        data = self.home.read(_FEATURES)
        if data is not None:
            return FeatureMap.from_json(json.loads(data))
        if self.shares_encoder:
            raise RemoteProtocolError("no_counts", "a shared encoder needs the role's summed counts first")
        _, train = self.released()
        return self._keep_features(fit_features(self.table, np.flatnonzero(train)))

    def share_features(self, counts: dict[str, npt.NDArray[np.float64]]) -> None:
        self._keep_features(features_from_counts(self.plan.schemas[self.role], counts))

    def _keep_features(self, features: FeatureMap) -> FeatureMap:
        self.home.write(_FEATURES, json.dumps(features.to_json()).encode())
        return features

    @cached_property
    def training(self) -> LocalTraining:
        gaps = self.home.config.profile == "resilient"
        learner, (_, train) = self.learner(self.features), self.released()
        remember_trained(self.home, self.plan, self.permit, self.table.ids[train])
        terms = self.plan.learning, self.plan.tasks, learner, self.dither, self.spine.slots, gaps
        return LocalTraining(self.home, *terms)

    def learner(self, features: FeatureMap) -> LocalLearner:
        """A fresh learner over this node's rows, at the weights that every member of the role starts from."""
        released, train = self.released()
        plan = self.plan.learning
        fold = cross_fit_fold(self.table.ids, plan.replicas)
        x = features.transform(self.table)
        terms = (self.plan.tasks, self._flips(), self._priors(), plan, self.plan.seed)
        learner = LocalLearner(self.me, x, released, fold, train, *terms)
        shared = initial_weights(shared_shapes(self.plan.tasks, plan), self.plan.seed, "shared")
        learner.load(shared, initial_weights(encoder_shapes(features.width, plan), self.plan.seed, f"role/{self.role}"))
        return learner

    def _flips(self) -> dict[str, npt.NDArray[np.float32] | None]:
        eps, share, priors = self.plan.label_eps, self._share, self._priors()
        if eps is None and share == 1:
            return {t.name: None for t in self.plan.tasks}
        of = {t.name: diluted(flip_matrix(t.classes, eps), priors[t.name], share) for t in self.plan.tasks}
        return {name: flips.astype(np.float32) for name, flips in of.items()}

    def _priors(self) -> dict[str, npt.NDArray[np.float64]]:
        return {t.name: np.array(self._release.priors[t.name]) for t in self.plan.tasks}

    def gains(self, shared: Weights, encoder: Weights) -> Quantised:
        """End training, score every row once, and say how much log-loss the scores save a task."""
        self.training.end(shared, encoder)
        log_odds, gains, trees = self.judge_scores(self.training.learner)
        if not self.is_owner:  # now, since no file holds which snapshots the last weights have left
            terms = (self.plan.tasks, self.plan.learning, self.features, self.training.learner.kept, self._priors())
            self.home.write(_SCORER, PartnerScorer(*terms, self._flips(), trees, gains).to_bytes())
        values = np.array([gains[t.name] for t in self.plan.tasks])
        self.home.write_arrays(_SCORES, {"log_odds": log_odds, "gains": values, "slots": self.spine.slots})
        return quantise({GAINS: values}, gain_layout(self.plan.tasks), self.dither("gains"))

    def judge_scores(
        self, learner: LocalLearner
    ) -> tuple[npt.NDArray[np.float32], dict[str, float], dict[str, Trees] | None]:
        """This node's log-odds (m, C), averaged with its own trees' where it has any, their gain a task, the trees."""
        log_odds, trees = learner.log_odds(), None
        if self._adds_trees and not self.is_owner:
            released, train = self.released()
            fold = cross_fit_fold(self.table.ids, self.plan.learning.replicas)
            terms = (self.plan.tasks, self._flips(), self._priors(), self.plan.seed)
            theirs, trees = partner_log_odds(self.table, released, fold, train, *terms)
            log_odds = ((log_odds + theirs) / 2).astype(np.float32)
        return log_odds, learner.gains(log_odds), trees

    @property
    def _adds_trees(self) -> bool:
        choice = self.plan.learning.trees
        return choice == "always" or (choice == "auto" and not self.shares_encoder)

    def scores(self, means: dict[str, float]) -> Quantised:
        """Integers of the weighed scores (size, C), given the mean gains that a masked sum opened."""
        self.home.write(_MEANS, canonical(means))
        placed = self.placed_scores()
        layout = score_layout(self.alignment.size, placed.shape[1])
        return quantise({SCORES: placed}, layout, self.dither("scores"))

    def placed_scores(self) -> npt.NDArray[np.float64]:
        """(size, C) weighed scores in spine order, before rounding; they never leave the node unmasked."""
        kept, means = self.home.read_arrays(_SCORES), self.home.read(_MEANS)
        if kept is None or means is None:
            raise RemoteProtocolError("no_scores", "scores were asked for before the gains")
        gains = {t.name: float(g) for t, g in zip(self.plan.tasks, kept["gains"], strict=True)}
        here = np.isin(kept["slots"], self.spine.slots)
        weighed = weigh(kept["log_odds"][here], gains, json.loads(means), self.plan.tasks)
        weighed[self._silent() | ~self.permitted("score")] = 0
        return place(weighed, self.spine)

    def scorer(self) -> PartnerScorer:
        """What a partner needs to score others as it scored here. Raises RemoteProtocolError before it has scored."""
        kept, means = self.home.read(_SCORER), self.home.read(_MEANS)
        if kept is None or means is None:
            raise RemoteProtocolError("no_scores", "a run ends after its scores")
        return replace(PartnerScorer.from_bytes(kept), means=json.loads(means))

    def _silent(self) -> npt.NDArray[np.bool_]:
        """Training customers of whom the node says nothing, so that the fusion learns to do without it (view dropout).

        Drawn from the node's own secret: nobody else can tell silence from having no information.
        """
        share = self.plan.learning.view_dropout
        _, train = self.released()
        if share == 0:
            return np.zeros_like(train)
        return train & (uniform(self.table.ids, self.home.derive("view-dropout").hex()) < share)
