"""A model bundle: ``weights.safetensors``, ``bundle.json``, the ``manifest.json`` that seals both, its signature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedprofile.errors import DataError
from fedprofile.models.fusion import FusedModel
from fedprofile.registry.files import BODY, WEIGHTS, read_sealed, write_sealed
from fedprofile.registry.frames import INPUT, Column, numeric_column, require_columns, table_from_columns
from fedprofile.registry.seal import Seal, Trust
from fedprofile.secagg.identity import Identity
from fedprofile.types import Schema, Table, Task, Weights, canonical

Array = npt.NDArray[Any]

SCHEMA_VERSION = 1
SHARED = "shared/"


@dataclass(frozen=True)
class Bundle:
    """A verified model. roles: names of the columns of ``known``; shared: trunk and heads of the federation.

    ``seal`` says whose signature it bears, and whether somebody had asked for that key.
    """

    model: FusedModel = field(repr=False)
    shared: Weights = field(repr=False)
    roles: tuple[str, ...]
    meta: Mapping[str, Any] = field(repr=False)
    seal: Seal

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.model.tasks

    @property
    def schema(self) -> Schema:
        """The bank's columns, which every input must have."""
        return self.model.bank.schema

    @property
    def view_columns(self) -> tuple[str, ...]:
        """``score.<task>.<j>`` (opened sums of log-odds), then ``known.<role>``: all or none of them are given."""
        scores = tuple(f"score.{t.name}.{j}" for t in self.tasks for j in range(t.outputs))
        return scores + tuple(f"known.{role}" for role in self.roles)

    @property
    def frame_columns(self) -> tuple[str, ...]:
        return self.schema.columns + self.view_columns

    def score(self, table: Table, sums: Array | None = None, known: Array | None = None) -> dict[str, Array]:
        """{task: (n, K)} float64; sums (n, C) and known (n, R) come together, NaN = not known.

        A row with a missing sum, or that no role knows, gets the bank-alone score.
        Raises DataError for a column that the table lacks, ValueError for wrong shapes.
        """
        require_columns(list(table.columns), self.schema.columns)
        if sums is None or known is None:
            return self.model.predict(table, sums, known)
        complete = ~np.isnan(sums).any(1, keepdims=True)
        present = np.where(complete, np.nan_to_num(known), 0.0)
        return self.model.predict(table, np.where(complete, sums, 0.0), present)

    def decide(self, task: Task, p: Array) -> npt.NDArray[np.int64]:
        """(n,) the class of each row of p (n, K): argmax of p_k / t_k, with the task's thresholds t of the bundle.

        Of a need, t = (1 - c, c) says yes above probability c; equal thresholds, and none, give the likeliest class.
        """
        t = self.meta.get("thresholds", {}).get(task.name)
        chosen: npt.NDArray[np.int64] = (p if t is None else p / np.asarray(t)).argmax(1)
        return chosen

    def score_columns(self, columns: Mapping[str, Column]) -> dict[str, Array]:
        """The same from the columns of a data frame: the bank's, and all or none of ``view_columns``.

        Raises DataError for a missing column, or text or infinities in a numeric one.
        """
        table = table_from_columns(columns, self.schema)
        if not any(name in columns for name in self.view_columns):
            return self.score(table)
        require_columns(list(columns), self.view_columns)
        views = np.stack([numeric_column(columns[name], name) for name in self.view_columns], 1)
        if len(views) != len(table):
            raise DataError(INPUT, "the columns have different lengths", "Pass the columns of one table.")
        return self.score(table, views[:, : self.model.sums], views[:, self.model.sums :])


def write_bundle(folder: Path, model: FusedModel, meta: Mapping[str, Any], shared: Weights, identity: Identity) -> None:
    """Write a model into a new or empty folder, signed by ``identity``: the label owner's own.

    meta: JSON values kept as they are; ``roles`` (names of the R columns of known) is required, ``id`` names the id
    column, ``thresholds`` are as ``Bundle.decide`` takes them. shared: tensors of the averaged trunk and heads.
    Raises UsageError if the folder is in use, ValueError if ``roles`` does not fit the model.
    """
    roles = list(meta.get("roles", []))
    if len(roles) != model.known:
        raise ValueError(f"meta['roles'] must name the {model.known} columns of known")
    weights, body = model.to_state()
    weights = {**weights, **{SHARED + name: w for name, w in shared.items()}}
    content = {"schema_version": SCHEMA_VERSION, "model": body, "meta": dict(meta)}
    tensors = save({name: np.ascontiguousarray(weights[name]) for name in sorted(weights)})
    write_sealed(Path(folder), {WEIGHTS: tensors, BODY: canonical(content)}, identity)


def open_bundle(folder: Path, trust: Trust | None = None) -> Bundle:
    """Verify, then parse. ``trust``: public keys of which one must have signed; None: ``seal.pinned`` will be False.

    Raises DataError for anything but exactly the files that ``write_bundle`` wrote, whole and signed.
    """
    sealed = read_sealed(Path(folder), trust=trust)
    files = sealed.files
    try:
        content = json.loads(files[BODY])
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise DataError(BODY, f"schema_version {version!r} is not known here", "Use a fitting fedprofile version.")
        weights: Weights = load(files[WEIGHTS])
        model = FusedModel.from_state(weights, content["model"])
        shared = {name.removeprefix(SHARED): w for name, w in weights.items() if name.startswith(SHARED)}
        return Bundle(model, shared, tuple(content["meta"]["roles"]), content["meta"], sealed.seal)
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        # The manifest fits, so this is no damage: another program or version wrote it.
        raise DataError(BODY, "not a bundle of this version", "Write it again with this version.") from None
