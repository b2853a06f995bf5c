"""The vocabulary that holds the house together: frozen dataclasses over numpy, and nothing else.

Sizes: n customers, T tasks, C outputs (a tier of K classes has K-1 thresholds, a need has 1),
F cross-fit replicas. Hashes are SHA-256 over the canonical JSON of ``canonical``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["stats", "update", "role", "score"]
KINDS: tuple[Kind, ...] = ("stats", "update", "role", "score")
TaskKind = Literal["ordinal", "binary"]
Ring = Literal[16, 32, 64]
Align = Literal["psi", "union", "plain", "simulated"]
Weights = dict[str, npt.NDArray[np.float32]]

RING_DTYPE: dict[int, Any] = {16: np.uint16, 32: np.uint32, 64: np.uint64}
MISSING_LABEL = -1


def canonical(value: Any) -> bytes:
    """The one JSON encoding that is hashed and signed: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(domain: str, *parts: bytes) -> bytes:
    """SHA-256 with a domain and length-prefixed parts, so that no two inputs share an encoding."""
    h = hashlib.sha256(f"fedprofile/{domain}".encode() + b"\0")
    for part in parts:
        h.update(len(part).to_bytes(8, "big"))
        h.update(part)
    return h.digest()


@dataclass(frozen=True)
class Task:
    """One thing to learn: an ordinal tier of ``classes`` >= 2 levels, or a binary need (2 classes)."""

    name: str
    kind: TaskKind
    classes: int

    @property
    def outputs(self) -> int:
        """Numbers that a score holds for this task: thresholds of a tier, 1 for a need."""
        return self.classes - 1


def output_slices(tasks: tuple[Task, ...]) -> dict[str, slice]:
    """Where each task's outputs lie in a vector of C numbers."""
    slices, at = {}, 0
    for task in tasks:
        slices[task.name] = slice(at, at + task.outputs)
        at += task.outputs
    return slices


@dataclass(frozen=True)
class Schema:
    """Column names of a table by kind; order is the table's own and fixes every layout."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.numeric + self.categorical


@dataclass(frozen=True)
class Table:
    """A party's private table.

    ids: (n,) unicode, normalised, unique. columns: name -> (n,) float64 with NaN for missing,
    or (n,) object of str with None for missing when the name is in ``categorical``.
    Its repr never shows a value.
    """

    ids: npt.NDArray[np.str_] = field(repr=False)
    columns: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    categorical: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def schema(self) -> Schema:
        names = tuple(self.columns)
        return Schema(
            tuple(c for c in names if c not in self.categorical), tuple(c for c in names if c in self.categorical)
        )

    def take(self, rows: npt.NDArray[Any]) -> Table:
        """The rows at the given positions (or boolean mask), in that order."""
        return Table(self.ids[rows], {c: v[rows] for c, v in self.columns.items()}, self.categorical)


@dataclass(frozen=True)
class Labels:
    """The label owner's labels: values[task] is (n,) int64, MISSING_LABEL where unknown."""

    ids: npt.NDArray[np.str_] = field(repr=False)
    values: Mapping[str, npt.NDArray[np.int64]] = field(repr=False)


@dataclass(frozen=True)
class Party:
    """One node: an organisation, or one of several that share a role. ``sign_pk`` is its raw Ed25519 key (32 bytes)."""

    id: str
    org: str
    role: str
    sign_pk: bytes

    @property
    def wire_id(self) -> bytes:
        """16 bytes that stand for the party inside fps1 messages."""
        return digest("party/1", self.id.encode())[:16]


@dataclass(frozen=True)
class Roster:
    """Who may take part.

    Valid if every member of the previous version signed it; version 1 is signed by all its own.
    """

    version: int
    previous: bytes
    parties: tuple[Party, ...]
    label_owner: str
    signatures: tuple[tuple[str, bytes], ...] = ()

    @property
    def hash(self) -> bytes:
        body = {k: v for k, v in self.to_json().items() if k != "signatures"}
        return digest("roster/1", canonical(body))

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "previous": self.previous.hex(),
            "label_owner": self.label_owner,
            "parties": [[p.id, p.org, p.role, p.sign_pk.hex()] for p in self.parties],
            "signatures": [[who, signature.hex()] for who, signature in self.signatures],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Roster:
        return Roster(
            version=data["version"],
            previous=bytes.fromhex(data["previous"]),
            parties=tuple(Party(i, o, r, bytes.fromhex(k)) for i, o, r, k in data["parties"]),
            label_owner=data["label_owner"],
            signatures=tuple((who, bytes.fromhex(s)) for who, s in data["signatures"]),
        )

    def party(self, id: str) -> Party:
        return next(p for p in self.parties if p.id == id)

    def members(self, role: str) -> tuple[Party, ...]:
        return tuple(p for p in self.parties if p.role == role)


@dataclass(frozen=True)
class Policy:
    """A node's own limits; a plan may be stricter, never laxer. Counts are customers unless said.

    ``max_uploads`` are masked uploads in one run, ``max_uploads_day`` in one UTC day, over all runs.
    ``max_points`` is about how many customers one partner may ask in an alignment, padding included.
    ``recompute``: only plans under which this node can work out every shared model itself.
    ``accept_differencing``: sums over sets that differ by one member may be opened (the resilient profile).
    """

    min_hidden: int = 2
    colluders: int = 0
    min_customers: int = 256
    tasks: tuple[str, ...] = ()
    max_uploads: int = 400
    max_uploads_day: int = 4000
    max_openings: int = 12
    max_points: int = 1 << 22
    clip: float = 1.0
    rings: tuple[int, ...] = (16, 32, 64)
    recompute: bool = False
    accept_differencing: bool = False

    @property
    def hash(self) -> bytes:
        return digest("policy/1", canonical(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Policy:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Policy(**fields)


@dataclass(frozen=True)
class Segment:
    """A named tensor inside a masked vector: ``scale`` is the value of one integer step, ``clip`` bounds |value|."""

    name: str
    shape: tuple[int, ...]
    ring: Ring
    clip: float
    scale: float

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.ring // 8

    @staticmethod
    def fitted(name: str, shape: tuple[int, ...], ring: Ring, clip: float, members: int) -> Segment:
        """The finest scale at which the sum of ``members`` clipped values cannot leave the ring."""
        steps = min(2 ** (ring - 1) - 1, 2**53) // members - 1  # float64 holds integers to 2^53
        return Segment(name, shape, ring, clip, clip / steps)


@dataclass(frozen=True)
class Layout:
    """The segments of one masked vector, in wire order."""

    segments: tuple[Segment, ...]

    @property
    def nbytes(self) -> int:
        return sum(s.nbytes for s in self.segments)

    @property
    def hash(self) -> bytes:
        body = [[s.name, list(s.shape), s.ring, s.clip.hex(), s.scale.hex()] for s in self.segments]
        return digest("layout/1", canonical(body))


@dataclass(frozen=True)
class RoundId:
    """What one sum is: ``scope`` is a role ("" = all), ``opener`` the party id that may open it ("" = coordinator)."""

    run_id: bytes
    kind: Kind
    scope: str
    t: int
    attempt: int = 0
    opener: str = ""


@dataclass(frozen=True)
class Quantised:
    """A node's integers before masking: segment name -> unsigned array of its shape and ring; how many saturated."""

    values: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    saturated: int = 0


@dataclass(frozen=True)
class Opened:
    """An opened sum over ``members`` (party ids): segment name -> float64 of its shape, summed, not averaged."""

    round: RoundId
    members: tuple[str, ...]
    values: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)


@dataclass(frozen=True)
class Spine:
    """The shared order of customers as one node sees it, by pseudonym, never by id.

    rows: (m,) positions in the node's own table; slots: (m,) positions in the spine of ``size`` slots;
    enough: (m,) bool, whether enough nodes besides the label owner know the customer (secure-sum rule 9.7).
    ``hash`` binds the rounds to this alignment.
    """

    size: int
    rows: npt.NDArray[np.int64] = field(repr=False)
    slots: npt.NDArray[np.int64] = field(repr=False)
    enough: npt.NDArray[np.bool_] = field(repr=False)
    hash: bytes


@dataclass(frozen=True)
class LearningPlan:
    """The part of a plan that fixes the arithmetic of local training; equal at every node."""

    replicas: int = 3
    hidden: int = 96
    profile: int = 64
    ensemble: int = 1
    dropout: float = 0.2
    lr: float = 2e-3
    weight_decay: float = 0.01
    batch: int = 256
    rounds: int = 20
    steps: int = 20
    share: str = "all"
    trees: str = "auto"
    encoder: str = "mlp"
    head: str = "continuation_ratio"
    view_dropout: float = 0.0


@dataclass(frozen=True)
class RunPlan:
    """What one training will do: shown to, and approved by, each node before it reads a row.

    ``schemas`` maps a role with shared encoders to its agreed columns. ``label_eps`` is the budget
    of randomised response per customer and task, None only by explicit choice. ``align`` says how the spine comes
    about; its size and hash are facts of the run, signed by the label owner once it is there. ``recompute``: the
    coordinator hands on every signed upload of a finished round, and nodes refuse weights that do not follow from them.
    ``start``: hash of the trained weights that trunk and heads begin from (``layout.start_hash``); empty: the seed's.
    """

    run_id: bytes
    purpose: str
    tasks: tuple[Task, ...]
    roster_hash: bytes
    policy_hash: bytes
    seed: int
    learning: LearningPlan
    label_eps: float | None
    min_views: int
    schemas: Mapping[str, Schema]
    align: Align = "psi"
    min_release: int = 256
    recompute: bool = False
    start: bytes = b""

    @property
    def basis(self) -> bytes:
        """Hash of everything but the run id: equal plans draw equal dither and batches."""
        return digest("plan/1", canonical(self._body()))

    @property
    def hash(self) -> bytes:
        return digest("plan-run/1", self.run_id, self.basis)

    def _body(self) -> dict[str, Any]:
        # A plan without a start is written as before there were any.
        started = {"start": self.start.hex()} if self.start else {}
        return started | {
            "purpose": self.purpose,
            "tasks": [[t.name, t.kind, t.classes] for t in self.tasks],
            "roster": self.roster_hash.hex(),
            "policy": self.policy_hash.hex(),
            "seed": self.seed,
            "learning": vars(self.learning),
            "label_eps": self.label_eps,
            "min_views": self.min_views,
            "schemas": {r: [list(s.numeric), list(s.categorical)] for r, s in sorted(self.schemas.items())},
            "align": self.align,
            "min_release": self.min_release,
            "recompute": self.recompute,
        }

    def to_json(self) -> bytes:
        return canonical({"run_id": self.run_id.hex(), **self._body()})

    @staticmethod
    def from_json(data: bytes) -> RunPlan:
        d = json.loads(data)
        return RunPlan(
            run_id=bytes.fromhex(d["run_id"]),
            purpose=d["purpose"],
            tasks=tuple(Task(*t) for t in d["tasks"]),
            roster_hash=bytes.fromhex(d["roster"]),
            policy_hash=bytes.fromhex(d["policy"]),
            seed=d["seed"],
            learning=LearningPlan(**d["learning"]),
            label_eps=d["label_eps"],
            min_views=d["min_views"],
            schemas={r: Schema(tuple(n), tuple(c)) for r, (n, c) in d["schemas"].items()},
            align=d["align"],
            min_release=d["min_release"],
            recompute=d["recompute"],
            start=bytes.fromhex(d.get("start", "")),
        )


@dataclass(frozen=True)
class Progress:
    """One step of a running job, for whoever watches: never more than stage, round and a loss from a masked sum."""

    stage: str
    round: int = 0
    rounds: int = 0
    loss: float | None = None
