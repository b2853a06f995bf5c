"""Requests for a sum, checked against the plan before any data is touched, and answered with masked uploads."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from fedprofile.crash import crash_at
from fedprofile.errors import RemoteProtocolError
from fedprofile.node import recompute
from fedprofile.node.consent import bind
from fedprofile.node.heads import Told, take_heads
from fedprofile.node.run import NodeRun
from fedprofile.node.sums import Shapes, check_planned, encoder_tensors, shared_tensors
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.encoding import quantise
from fedprofile.secagg.messages import Round
from fedprofile.secagg.wire import Buffer, claims
from fedprofile.types import Weights


def answer_round(run: NodeRun, session: ClientSession, told: Told, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Masked uploads for one request: (stats | gains | scores) alone, or an update with the role's encoder.

    Where the plan says so, the signed uploads of the round before come with it (``fedprofile.node.recompute``).
    Raises RemoteProtocolError for a request that the plan does not imply, before a row is read.
    """
    relayed = tuple(part for part in parts if claims(part, "Upload"))
    own = tuple(part for part in parts if not claims(part, "Upload"))
    if not own or (relayed and not run.plan.recompute):
        raise RemoteProtocolError("bad_envelope", "a round needs a request, and uploads only where they are recomputed")
    first = _verified(run, session, own[0])
    plan, what = run.plan, (first.id.kind, first.id.scope)
    if what == ("update", "") and 1 <= first.id.t <= plan.learning.rounds:
        return _train(run, session, told, first, own[1:], relayed)
    if what == ("stats", "") and first.id.t == plan.learning.rounds + 1:
        return _weigh(run, session, told, first, own[1:], relayed)
    if len(parts) == 1 and what == ("stats", run.role) and first.id.t == 0 and run.shares_encoder:
        return _count(run, session, told, first)
    if len(parts) == 1 and what == ("score", "") and first.id.t == plan.learning.rounds + 2 and not run.is_owner:
        return _score(run, session, told, first)
    raise RemoteProtocolError("wrong_kind", "this node does not take part in such a sum")


def _verified(run: NodeRun, session: ClientSession, part: bytes) -> Round:
    request = session.verify_round(part)
    if (request.spine_hash, request.bundle_hash) != (run.alignment.hash, run.plan.hash):
        raise RemoteProtocolError("wrong_spine", "the round is bound to another alignment or plan")
    return request


def _count(run: NodeRun, session: ClientSession, told: Told, request: Round) -> tuple[bytes, ...]:
    check_planned(run, request)
    take_heads(run, told, request)
    _bind(run, request)
    counts = quantise(run.counts(), request.layout, run.dither("counts"))
    if run.plan.recompute:
        recompute.keep(run, session, {}, (request,))
    return (session.contribute(request, counts, told.log.head),)


def _train(
    run: NodeRun,
    session: ClientSession,
    told: Told,
    update: Round,
    rest: tuple[bytes, ...],
    relayed: tuple[bytes, ...],
) -> tuple[bytes, ...]:
    t = update.id.t
    if len(rest) != int(run.shares_encoder):
        raise RemoteProtocolError("wrong_kind", "an update comes with the role's encoder where it is shared")
    check_planned(run, update)
    shared = _weights(update.model, shared_tensors(run))
    encoder: Weights = {}
    requests = {"update": update}
    if run.shares_encoder:
        role = _verified(run, session, rest[0])
        if (role.id.kind, role.id.scope, role.id.t) != ("role", run.role, t):
            raise RemoteProtocolError("wrong_kind", "the encoder's sum must be of the same round and role")
        if role.audit_head != update.audit_head:
            raise RemoteProtocolError("audit_head_mismatch", "two roots of the heads before one round")
        check_planned(run, role)
        encoder = _role_weights(run, role.model)
        requests["role"] = role
    models = _models(shared, encoder)
    if t == 1:
        recompute.check_start(run, shared)
    if run.plan.recompute:
        recompute.check_models(run, t, models, relayed)
    take_heads(run, told, update, relayed)
    _bind(run, update)
    trained = run.training.round(t, shared, encoder, {kind: request.layout for kind, request in requests.items()})
    crash_at("training")
    if run.plan.recompute:
        recompute.keep(run, session, models, requests.values())
    return tuple(session.contribute(request, trained[kind], told.log.head) for kind, request in requests.items())


def _weigh(
    run: NodeRun,
    session: ClientSession,
    told: Told,
    request: Round,
    sent: tuple[bytes, ...],
    relayed: tuple[bytes, ...],
) -> tuple[bytes, ...]:
    check_planned(run, request)
    hashes = _json(request)
    names = ("", run.role) if run.shares_encoder else ("",)
    if len(sent) != len(names):
        raise RemoteProtocolError("wrong_kind", "the last weights are missing")
    for name, model in zip(names, sent, strict=True):
        if hashes.get(name) != hashlib.sha256(model).hexdigest():
            raise RemoteProtocolError("bad_model_hash", "the last weights are not the ones the request is bound to")
    shared = _weights(sent[0], shared_tensors(run))
    encoder = _role_weights(run, sent[1]) if run.shares_encoder else {}
    models = _models(shared, encoder)
    if run.plan.recompute:
        recompute.check_models(run, request.id.t, models, relayed)
    take_heads(run, told, request, relayed)
    _bind(run, request)
    gains = run.gains(shared, encoder)
    if run.plan.recompute:
        recompute.keep(run, session, models, (request,))
    return (session.contribute(request, gains, told.log.head),)


def _score(run: NodeRun, session: ClientSession, told: Told, request: Round) -> tuple[bytes, ...]:
    check_planned(run, request)
    take_heads(run, told, request)
    means = _json(request)
    numbers = all(isinstance(v, float) and np.isfinite(v) for v in means.values())
    if set(means) != {t.name for t in run.plan.tasks} or not numbers:
        raise RemoteProtocolError("bad_request", "the mean gains do not fit the plan's tasks")
    bind(run.home, "score/", request.id.t, run.spine.slots[run.permitted("score")])
    return (session.contribute(request, run.scores(means), told.log.head),)


def _bind(run: NodeRun, request: Round) -> None:
    """Reads the rows. Raises PolicyRefusal("consent_changed") for a retry that would repeat a gone customer's part."""
    bind(run.home, f"{request.id.kind}/{request.id.scope}", request.id.t, run.spine.slots)


def _models(shared: Weights, encoder: Weights) -> recompute.Models:
    """By the kind of sum that changes them; what is not shared is in no sum."""
    models: recompute.Models = {"update": shared, "role": encoder}
    return {kind: weights for kind, weights in models.items() if weights}


def _json(request: Round) -> dict[str, Any]:
    try:
        body = json.loads(bytes(request.model))
    except ValueError:
        raise RemoteProtocolError("bad_request", "the request's model is not JSON") from None
    if not isinstance(body, dict):
        raise RemoteProtocolError("bad_request", "the request's model is not an object")
    return body


def tensors(data: Buffer) -> dict[str, npt.NDArray[Any]]:
    """Raises RemoteProtocolError("bad_model") for bytes that are no safetensors."""
    try:
        return load(bytes(data))
    except SafetensorError:
        raise RemoteProtocolError("bad_model", "not a safetensors file") from None


def _weights(data: Buffer, shapes: Shapes) -> Weights:
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


def _role_weights(run: NodeRun, data: Buffer) -> Weights:
    """The encoder names the bins it was made for; other members' bins would make another network of it."""
    weights = _weights(data, encoder_tensors(run))
    head = json.loads(bytes(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    if head.get("__metadata__", {}).get("bins", "").encode() != run.home.read("bins"):
        raise RemoteProtocolError("wrong_bins", "the role's encoder was made for other bins")
    return weights
