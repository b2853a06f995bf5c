"""Requests for a sum, checked against the plan before any data is touched, and answered with masked uploads."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from fedprofile.aggregation import (
    counts_layout,
    delta_layout,
    gain_layout,
    role_takes_trunk,
    round_clip,
    score_layout,
    update_layout,
)
from fedprofile.errors import RemoteProtocolError
from fedprofile.models.layout import encoder_shapes, shared_shapes
from fedprofile.node.run import NodeRun
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.encoding import quantise
from fedprofile.secagg.messages import Round
from fedprofile.types import Layout, Weights

Shapes = dict[str, tuple[int, ...]]


def answer_round(run: NodeRun, session: ClientSession, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Masked uploads for one request: (stats | gains | scores) alone, or an update with the role's encoder.

    Raises RemoteProtocolError for a request that the plan does not imply, before a row is read.
    """
    if not parts:
        raise RemoteProtocolError("bad_envelope", "a round needs a request")
    first = _verified(run, session, parts[0])
    plan, what = run.plan, (first.id.kind, first.id.scope)
    if what == ("update", "") and 1 <= first.id.t <= plan.learning.rounds:
        return _train(run, session, first, parts[1:])
    if what == ("stats", "") and first.id.t == plan.learning.rounds + 1:
        return _weigh(run, session, first, parts[1:])
    if len(parts) == 1 and what == ("stats", run.role) and first.id.t == 0 and run.shares_encoder:
        return _count(run, session, first)
    if len(parts) == 1 and what == ("score", "") and first.id.t == plan.learning.rounds + 2 and not run.is_owner:
        return _score(run, session, first)
    raise RemoteProtocolError("wrong_kind", "this node does not take part in such a sum")


def _verified(run: NodeRun, session: ClientSession, part: bytes) -> Round:
    request = session.verify_round(part)
    if (request.spine_hash, request.bundle_hash) != (run.alignment.hash, run.plan.hash):
        raise RemoteProtocolError("wrong_spine", "the round is bound to another alignment or plan")
    return request


def _count(run: NodeRun, session: ClientSession, request: Round) -> tuple[bytes, ...]:
    layout = counts_layout(run.plan.schemas[run.role], len(run.roster.members(run.role)))
    _same_layout(request, layout)
    return (session.contribute(request, quantise(run.counts(), layout, run.dither("counts"))),)


def _train(run: NodeRun, session: ClientSession, update: Round, rest: tuple[bytes, ...]) -> tuple[bytes, ...]:
    plan, t = run.plan.learning, update.id.t
    if len(rest) != int(run.shares_encoder):
        raise RemoteProtocolError("wrong_kind", "an update comes with the role's encoder where it is shared")
    layouts = {"update": update_layout(_shared(run), plan, run.plan.tasks, t, len(run.roster.parties))}
    _same_layout(update, layouts["update"])
    shared = _weights(update.model, _shared(run))
    encoder: Weights = {}
    requests = {"update": update}
    if run.shares_encoder:
        role = _verified(run, session, rest[0])
        if (role.id.kind, role.id.scope, role.id.t) != ("role", run.role, t):
            raise RemoteProtocolError("wrong_kind", "the encoder's sum must be of the same round and role")
        layouts["role"] = delta_layout(_encoder(run), round_clip(plan, t), len(run.roster.members(run.role)))
        _same_layout(role, layouts["role"])
        encoder = _role_weights(run, role.model)
        requests["role"] = role
    trained = run.training.round(t, shared, encoder, layouts)
    return tuple(session.contribute(requests[kind], trained[kind]) for kind in ("update", "role") if kind in requests)


def _weigh(run: NodeRun, session: ClientSession, request: Round, models: tuple[bytes, ...]) -> tuple[bytes, ...]:
    _same_layout(request, gain_layout(run.plan.tasks))
    hashes = _json(request)
    names = ("", run.role) if run.shares_encoder else ("",)
    if len(models) != len(names):
        raise RemoteProtocolError("wrong_kind", "the last weights are missing")
    for name, model in zip(names, models, strict=True):
        if hashes.get(name) != hashlib.sha256(model).hexdigest():
            raise RemoteProtocolError("bad_model_hash", "the last weights are not the ones the request is bound to")
    shared = _weights(models[0], _shared(run))
    encoder = _role_weights(run, models[1]) if run.shares_encoder else {}
    return (session.contribute(request, run.gains(shared, encoder)),)


def _score(run: NodeRun, session: ClientSession, request: Round) -> tuple[bytes, ...]:
    _same_layout(request, score_layout(run.alignment.size, sum(t.outputs for t in run.plan.tasks)))
    means = _json(request)
    numbers = all(isinstance(v, float) and np.isfinite(v) for v in means.values())
    if set(means) != {t.name for t in run.plan.tasks} or not numbers:
        raise RemoteProtocolError("bad_request", "the mean gains do not fit the plan's tasks")
    return (session.contribute(request, run.scores(means)),)


def _shared(run: NodeRun) -> Shapes:
    return shared_shapes(run.plan.tasks, run.plan.learning) if run.plan.learning.share == "all" else {}


def _encoder(run: NodeRun) -> Shapes:
    shapes = encoder_shapes(run.features.width, run.plan.learning)
    return shapes | shared_shapes(run.plan.tasks, run.plan.learning) if role_takes_trunk(run.plan.learning) else shapes


def _same_layout(request: Round, expected: Layout) -> None:
    if request.layout != expected:
        raise RemoteProtocolError("wrong_layout", "the request's layout is not the one the plan implies")


def _json(request: Round) -> dict[str, Any]:
    try:
        body = json.loads(request.model)
    except ValueError:
        raise RemoteProtocolError("bad_request", "the request's model is not JSON") from None
    if not isinstance(body, dict):
        raise RemoteProtocolError("bad_request", "the request's model is not an object")
    return body


def tensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Raises RemoteProtocolError("bad_model") for bytes that are no safetensors."""
    try:
        return load(data)
    except SafetensorError:
        raise RemoteProtocolError("bad_model", "not a safetensors file") from None


def _weights(data: bytes, shapes: Shapes) -> Weights:
    if not shapes:
        if data:
            raise RemoteProtocolError("bad_model", "weights that the plan does not share")
        return {}
    weights = tensors(data)
    expected = {n: (s, np.dtype(np.float32)) for n, s in shapes.items()}
    fits = {n: (w.shape, w.dtype) for n, w in weights.items()} == expected
    if not fits or not all(np.isfinite(w).all() for w in weights.values()):
        raise RemoteProtocolError("bad_model", "the weights do not fit the plan's architecture")
    return {n: weights[n] for n in shapes}


def _role_weights(run: NodeRun, data: bytes) -> Weights:
    """The encoder names the bins it was made for; other members' bins would make another network of it."""
    weights = _weights(data, _encoder(run))
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if head.get("__metadata__", {}).get("bins", "").encode() != run.home.read("bins"):
        raise RemoteProtocolError("wrong_bins", "the role's encoder was made for other bins")
    return weights
