"""What the coordinator of one run holds between two questions, and how an opened sum changes it; it asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from safetensors.numpy import save

from fedprofile.aggregation import GAINS
from fedprofile.coordinator.audit import CoordinatorLog, RunLog, result_hash
from fedprofile.coordinator.checkpoint import CheckpointStore
from fedprofile.coordinator.job import Job
from fedprofile.coordinator.wire import Wire
from fedprofile.governance.audit import heads_root
from fedprofile.governance.audit_coordinator import Summed
from fedprofile.secagg.policy import hidden, tolerance
from fedprofile.secagg.resilient_messages import decode_upload
from fedprofile.types import Kind, Opened, RoundId, canonical


class Holdings:
    """The job, who takes part, and the checkpoint's state; loading it counts one key agreement more."""

    def __init__(self, job: Job, store: CheckpointStore, log: CoordinatorLog | None = None) -> None:
        self.job, self.store = job, store
        self.audit = RunLog(log)
        self.plan, self.roster = job.plan, job.roster
        self.everyone = tuple(p.id for p in self.roster.parties)
        self.owner = self.roster.label_owner
        self.partners = tuple(p for p in self.everyone if p != self.owner)
        self.roles = tuple(sorted(self.plan.schemas))
        self.state = store.load()
        self.state.setups += 1
        self.wire = Wire(**self.state.wire)
        self._keep()

    def _keep(self) -> None:
        """What a restarted coordinator goes on from."""
        self.state.wire = asdict(self.wire)
        self.store.save(self.state)

    def _suspend(self, sums: tuple[bytes, ...]) -> None:
        """Keeps what is about to be opened; nothing once it is."""
        self.state.suspended = sums
        self._keep()

    def _settled(self) -> int:
        """The last round that is opened, or lost: its nodes agreed to a set that nobody opened."""
        return max(self.state.t, self.state.lost)

    def _next_t(self) -> int:
        """The first index that this key agreement serves: 0 for the counts, then the next round, last the scores."""
        if self.state.means:
            return self.plan.learning.rounds + (1 if self.state.late else 2)
        counted = all(role in self.state.counts for role in self.roles)
        return self._settled() + 1 if counted else 0

    def _log_sums(self, *sums: Opened) -> None:
        """Before anything that follows from them; after a crash here they are opened, and logged, once more."""
        lines = [self._summed(o.round, o.members, result_hash(o.values), shown=self.audit.shown) for o in sums]
        self.audit.write(*lines)

    def _summed(self, id: RoundId, members: tuple[str, ...], result: str, **more: Any) -> Summed:
        place = (self.plan.run_id.hex(), id.kind, id.scope, id.t, id.attempt)
        return Summed(*place, members, result, self._audit_root().hex(), **more)

    def _take_counts(self, opened: Opened) -> None:
        self._log_sums(opened)
        role = opened.round.scope
        self.state.counts[role] = {c: opened.values[f"count.{c}"] for c in self.plan.schemas[role].columns}
        self._opened("stats", role, opened.members, "")
        self._suspend(())

    def _take_gains(self, opened: Opened) -> None:
        self._log_sums(opened)
        sums = zip(self.plan.tasks, opened.values[GAINS], strict=True)
        self.state.means = {t.name: float(v) / len(opened.members) for t, v in sums}
        self.state.late = [p for p in self.partners if p not in opened.members]
        self.state.uploads = {}
        self._opened("stats", "", opened.members, "")
        self._suspend(())

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

    def _take_heads(self, uploads: Mapping[str, bytes]) -> None:
        """Whose audit log stood where when it uploaded: the next round is bound to all of them."""
        self.state.heads |= {p: decode_upload(u, self.roster).audit_head.hex() for p, u in uploads.items()}

    def _audit_root(self) -> bytes:
        return heads_root({party: bytes.fromhex(head) for party, head in self.state.heads.items()})

    def _keep_uploads(self, slot: str, opened: Opened, uploads: dict[str, bytes]) -> None:
        """Kept until the next round is open: masked and signed, they are what nodes recompute this sum from."""
        if self.plan.recompute:
            self.state.uploads[slot] = tuple(uploads[p] for p in opened.members)

    def _relayed(self, role: str) -> tuple[bytes, ...]:
        """The uploads of the last round that a member of this role recomputes."""
        return self.state.uploads.get("update", ()) + self.state.uploads.get(f"role/{role}", ())

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

    def _final_hashes(self) -> bytes:
        return canonical({role: sha256(self._model(role)).hexdigest() for role in ("", *self.roles)})

    def _final_models(self, role: str) -> tuple[bytes, ...]:
        models = (self._model(""), self._model(role)) if role in self.roles else (self._model(""),)
        return models + self._relayed(role)
