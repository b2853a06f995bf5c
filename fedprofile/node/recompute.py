"""Shared weights and counts that a node works out itself, so that the coordinator can only carry them (secure-sum 9.6).

Round 1 starts from the plan's seed, or from trained weights that the plan names by their hash; every later model is
the one before plus the mean of the signed uploads that the coordinator hands on. What does not come out byte for byte
is refused before a row is read: against crafted weights that would turn a sum into rows of one node (Fowl et al. 2022;
Pasquini et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fedprofile.aggregation import check_weight, next_shared
from fedprofile.errors import RemoteProtocolError
from fedprofile.models.grid import features_from_counts
from fedprofile.models.layout import RECOMPUTED_PARAMETERS, first_encoder, first_shared, parameters, start_hash
from fedprofile.node.run import NodeRun
from fedprofile.node.sums import planned
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.codes import refusal, remote
from fedprofile.secagg.messages import Round, Upload
from fedprofile.secagg.tally import Terms, recompute
from fedprofile.types import Kind, RoundId, Weights

_BASIS = "basis.safetensors"
Models = dict[Kind, Weights]
"""Kind of sum ("update", "role") -> the weights that its deltas belong to."""


@dataclass(frozen=True)
class Basis:
    """The last round this node took part in: the weights it was about, and attempt and H of its last upload a kind.

    A retry has another attempt and hence another H, over the same integers: the last one counts.
    """

    t: int
    models: Models
    sums: Mapping[Kind, tuple[int, bytes]]


def keep(run: NodeRun, session: ClientSession, models: Models, requests: Iterable[Round]) -> None:
    """Commit one round, the ``requests`` about it, in the home: before this node's uploads for it leave."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for kind, weights in models.items():
        arrays |= {f"w/{kind}/{name}": value for name, value in weights.items()}
    for request in requests:
        arrays["t"] = np.array([request.id.t])
        arrays[f"a/{request.id.kind}"] = np.array([request.id.attempt])
        arrays[f"h/{request.id.kind}"] = np.frombuffer(session.bound(request), np.uint8)
    run.home.write_arrays(_BASIS, arrays)


def read_basis(run: NodeRun) -> Basis:
    """Raises RemoteProtocolError("wrong_round") where this node took part in no sum yet."""
    arrays = run.home.read_arrays(_BASIS)
    if arrays is None:
        raise RemoteProtocolError("wrong_round", "this node took part in no round of this run yet")
    models: Models = {}
    sums: dict[Kind, tuple[int, bytes]] = {}
    for key, value in arrays.items():
        mark, _, rest = key.partition("/")
        kind = cast("Kind", rest.partition("/")[0])
        if mark == "w":
            models.setdefault(kind, {})[rest.partition("/")[2]] = value
        if mark == "h":
            sums[kind] = int(arrays[f"a/{kind}"][0]), value.tobytes()
    return Basis(int(arrays["t"][0]), models, sums)


def check_models(run: NodeRun, t: int, models: Models, uploads: Sequence[bytes]) -> None:
    """Refuse weights for round ``t`` that are not the plan's first ones, or do not follow from round t - 1.

    uploads: those of the update and those of the role, each in wire order; a retry of ``t`` needs none.
    Raises RemoteProtocolError: not_recomputed, wrong_round where this node did not take part in t - 1, and as
    ``fedprofile.secagg.tally.recompute`` does.
    """
    if t == 1:
        expected = _first(run, models)
    else:
        basis = read_basis(run)
        if basis.t not in (t - 1, t):
            raise RemoteProtocolError("wrong_round", f"this node took part in round {basis.t} last")
        expected = basis.models if basis.t == t else _next(run, basis, uploads)
    for kind, weights in models.items():
        if not _same(weights, expected.get(kind, {})):
            raise _refused(f"the weights of {kind!r} for round {t}")


def check_start(run: NodeRun, shared: Weights) -> None:
    """Refuse a first model other than the trained one that the plan names; raises as ``check_models`` does."""
    if run.plan.start and start_hash(shared) != run.plan.start:
        raise _refused("the weights that the run begins from")


def check_counts(run: NodeRun, counts: Mapping[str, npt.NDArray[Any]], uploads: Sequence[bytes]) -> None:
    """Refuse counts for shared bins that are not the sum of the members' uploads; raises as ``check_models`` does.

    With the bins the encoder's size is known: PolicyRefusal("too_large_to_recompute") above the bound of a plan.
    """
    summed = _sum(run, read_basis(run), "stats", uploads)
    if not _same(counts, {name.removeprefix("count."): value for name, value in summed.items()}):
        raise _refused("the role's summed counts")
    width = features_from_counts(run.plan.schemas[run.role], counts).width
    if (size := parameters(run.plan.tasks, run.plan.learning, width)) > RECOMPUTED_PARAMETERS:
        raise refusal("too_large_to_recompute", f"{size:,} parameters with the role's encoder")


def check_final(run: NodeRun, shared: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse a final model other than the one that was recomputed before the gains."""
    basis = read_basis(run)
    if not _is_final(run, basis) or not _same(shared, basis.models.get("update", {})):
        raise _refused("the final weights")


def final_shared(run: NodeRun) -> Weights:
    """The shared model that this node recomputed before the gains; empty where none is shared, or it came to none."""
    if not run.plan.recompute or not run.home.has(_BASIS):
        return {}
    basis = read_basis(run)
    return basis.models.get("update", {}) if _is_final(run, basis) else {}


def _is_final(run: NodeRun, basis: Basis) -> bool:
    return basis.t == run.plan.learning.rounds + 1


def _first(run: NodeRun, models: Models) -> Models:
    first: Models = {}
    for kind, weights in models.items():
        if kind == "role":
            first[kind] = first_encoder(run.plan, run.role, run.features.width)
        else:
            first[kind] = weights if run.plan.start else first_shared(run.plan)  # ``check_start`` has seen them
    return first


def _next(run: NodeRun, basis: Basis, uploads: Sequence[bytes]) -> Models:
    by_kind: dict[Kind, list[bytes]] = {kind: [] for kind in basis.models}
    for upload in uploads:
        kind = Upload.decode(upload, run.roster).id.kind
        if kind not in by_kind:
            raise RemoteProtocolError("wrong_round", f"an upload of kind {kind!r}, whose sum changes no weights here")
        by_kind[kind].append(upload)
    return {
        kind: next_shared(weights, _sum(run, basis, kind, by_kind[kind]), len(planned(run, kind, basis.t).cohort))
        for kind, weights in basis.models.items()
    }


def _sum(run: NodeRun, basis: Basis, kind: Kind, uploads: Sequence[bytes]) -> dict[str, npt.NDArray[np.float64]]:
    if kind not in basis.sums:
        raise RemoteProtocolError("wrong_round", f"this node has no upload of kind {kind!r} in round {basis.t}")
    attempt, h = basis.sums[kind]
    due = planned(run, kind, basis.t)
    id = RoundId(run.plan.run_id, kind, due.scope, basis.t, attempt)
    terms = Terms(id, h, due.cohort, due.layout, run.alignment.hash, run.plan.hash)
    summed = recompute(run.roster, terms, uploads)
    check_weight(summed)
    return summed


def _same(a: Mapping[str, npt.NDArray[Any]], b: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Equal names, types, shapes and bytes: -0.0 is not 0.0 here."""
    if a.keys() != b.keys():
        return False
    return all((v.dtype, v.shape, v.tobytes()) == (b[n].dtype, b[n].shape, b[n].tobytes()) for n, v in a.items())


def _refused(what: str) -> RemoteProtocolError:
    return remote("not_recomputed", f"{what} do not follow from the plan and the signed uploads")
