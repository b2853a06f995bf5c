"""What must not be found in captured bytes: everything private that lies in the nodes' homes, in any usual encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load_file
from scipy.stats import chi2

from fedprofile.aggregation import GAINS, META
from fedprofile.alignment.curve import SCALAR_BYTES, mask, masked_hashes, scalar
from fedprofile.alignment.psi import Owner, split
from fedprofile.alignment.suites import SUITES
from fedprofile.alignment.union import Holder, name_of
from fedprofile.coordinator.job import Job
from fedprofile.label_owner.home import read_labels, read_membership
from fedprofile.label_owner.party import open_node
from fedprofile.node.aligning import Aligning
from fedprofile.node.uniting import Uniting
from fedprofile.secagg.encoding import pack, unpack, vectors
from fedprofile.types import Layout, Quantised, RoundId

Vectors = Mapping[RoundId, Mapping[str, bytes]]
Array = npt.NDArray[Any]
WINDOW = 8
ENOUGH = 1024
"""Bytes below which a chi-square over 256 values says nothing."""


def check_random(data: bytes, what: str) -> None:
    """Bytes are uniform (chi-square, 255 degrees of freedom), or too few to say."""
    if len(data) >= ENOUGH:
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        expected = len(data) / 256
        assert chi2.sf(((counts - expected) ** 2 / expected).sum(), 255) > 1e-9, f"{what} is not random"


def check_masked(sums: Vectors, layouts: Mapping[RoundId, Layout], homes: Mapping[str, Path]) -> None:
    """Every vector, every sum of two of a cohort and every difference of a node's rounds is random.

    Where a node's own integers are in its home, the mask that they show is random as well, and all masks of the
    cohort cancel.
    """
    ordered = sorted(sums, key=lambda id: id.t)
    for before, after in pairwise([id for id in ordered if id.kind == "update"]):
        for party in sums[before].keys() & sums[after].keys():
            change = _add(sums[after][party], sums[before][party], layouts[after], -1)
            check_random(change, f"{party}'s change between two rounds: a mask was used twice, it")
    for id, by in sums.items():
        for party, y in by.items():
            check_random(y, f"{party}'s vector for {id.kind} {id.t}")
            _check_small(y, party, id, layouts[id], homes)
        if len(by) > 2 or id.opener:
            for a, b in combinations(by, 2):
                check_random(_add(by[a], by[b], layouts[id], 1), f"the sum of two vectors for {id.kind}")
        _check_pending(id, by, layouts[id], homes)


def _add(a: bytes, b: bytes, layout: Layout, sign: int) -> bytes:
    total = bytearray(a)
    for ring, vector in vectors(total, layout).items():
        np.add(vector, vectors(b, layout)[ring] * vector.dtype.type(sign % (1 << ring)), out=vector)
    return bytes(total)


def _check_small(y: bytes, party: str, id: RoundId, layout: Layout, homes: Mapping[str, Path]) -> None:
    """Counts, losses and gains are too few numbers for a statistic: none may stand there as it is."""
    values = unpack(vectors(y, layout), layout)
    if META in values:
        (segment,) = (s for s in layout.segments if s.name == META)
        plain = values[META].view(np.int64) * segment.scale
        assert (np.abs(plain) > 1e6).all(), f"{party}'s counts and losses of round {id.t} are not masked"
    if GAINS in values:
        gains = load_file(homes[party] / "run" / "scores.safetensors")["gains"]
        plain = values[GAINS].view(np.int32) * layout.segments[0].scale
        assert (np.abs(plain - gains) > 1e-3).all(), f"{party}'s gains are not masked"


def _check_pending(id: RoundId, by: Mapping[str, bytes], layout: Layout, homes: Mapping[str, Path]) -> None:
    """The last round's integers are still in the homes."""
    packed = {}
    for party in by:
        kept = load_file(homes[party] / "run" / "training.safetensors")
        if id.kind not in ("update", "role") or int(kept["t"][0]) != id.t:
            return
        prefix = f"p/{id.kind}/"
        integers = {n.removeprefix(prefix): v for n, v in kept.items() if n.startswith(prefix)}
        packed[party] = bytes(pack(Quantised(integers), layout))
        check_random(_add(by[party], packed[party], layout, -1), f"the mask of {party}'s {id.kind}")
    if len(by) == len({p for p in homes if id.kind == "update" or p in by}):
        total = bytes(layout.nbytes)
        for party, y in by.items():
            total = _add(_add(total, y, layout, 1), packed[party], layout, -1)
        assert not any(total), f"the masks of {id.kind} {id.t} do not cancel"


def check_secrets(sent: bytes, homes: Mapping[str, Path], job: Job) -> None:
    """No id, no label vector, no window of eight bytes of any private tensor in any usual encoding."""
    windows = np.unique(_windows(sent, 1))
    for party, home in homes.items():
        for id in pl.read_parquet(home / "table.parquet")["__id__"].to_list():
            for form in (id.encode(), id.encode("utf-16-le"), hashlib.sha256(id.encode()).digest()):
                assert form not in sent, f"an id of {party} crossed"
        for name, text in _label_texts(home, job):
            assert text not in sent, f"{name} of {party} crossed"
        for name, value in _aligned(home):
            assert value not in sent, f"{name} of {party} crossed"
        for name, tensor in _tensors(home):
            for form, width in _forms(tensor):
                private = _windows(form, width)
                found = private[windows[np.searchsorted(windows, private).clip(max=len(windows) - 1)] == private]
                assert not _telling(found), f"{name} of {party} crossed"


def _aligned(home: Path, many: int = 16) -> Iterator[tuple[str, bytes]]:
    """What an alignment is made of: blinded points, values, claims, who knows whom, the key; a few bytes of each."""
    node = open_node(home)
    if node.home.config.align not in SUITES:
        return
    aligning = (Uniting if node.run.plan.align == "union" else Aligning)(
        node.home, node.identity, node.roster, node.policy, node.journal, node.run.plan, None
    )
    rand, (_, ids) = aligning.rand, aligning.ids()
    key = scalar(rand()(SCALAR_BYTES))
    for order in ("little", "big"):
        yield "the alignment key", key.to_bytes(32, order)
    messages = [b"\1" + str(i).encode() for i in ids[:many]]
    for point in split(SUITES[node.home.config.align].blind(messages, key), 32):
        yield "a blinded id", point
    if node.home.config.align == "union":
        yield "the key of a union", _holder(home)._key.to_bytes(32, "little")
    elif node.run.is_owner:
        owner = Owner(
            ids, node.run.plan.hash, SUITES[node.home.config.align], rand(), (node.home.read("values") or b"")[32:]
        )
        for name in split(owner._spine, 16)[:many]:
            yield "a pseudonym", name
        knows = read_membership(node.home).known
        enough = np.sum(list(knows.values()), axis=0) >= node.run.plan.min_views
        for party, known in knows.items():
            yield f"of whom enough and {party} know", np.packbits(known & enough).tobytes()
            yield f"whom {party} knows", np.packbits(known).tobytes()
            yield f"whom {party} knows", known.tobytes()


def union_names(homes: Mapping[str, Path], party: str) -> list[bytes]:
    """The names of a party's list, worked out from all keys together, which no party and no coordinator has."""
    holder = _holder(homes[party])
    values = masked_hashes(holder._messages, holder._key)
    for other in homes:
        values = values if other == party else mask(values, _holder(homes[other])._key)
    roster = open_node(homes[party]).roster.hash
    return [name_of(roster, m, v) for m, v in zip(holder._messages, split(values, 32), strict=True)]


def _holder(home: Path) -> Holder:
    node = open_node(home)
    uniting = Uniting(node.home, node.identity, node.roster, node.policy, node.journal, node.run.plan, None)
    return uniting._side(uniting.ids()[1])


def _windows(data: bytes, step: int) -> npt.NDArray[np.uint64]:
    """Eight bytes at every ``step``, in order."""
    if len(data) < WINDOW:
        return np.zeros(0, np.uint64)
    view = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), WINDOW)[:: min(step, WINDOW)]
    return np.ascontiguousarray(view).view(np.uint64).ravel()


def _telling(found: npt.NDArray[np.uint64]) -> bool:
    """More than chance can put there.

    Zeros and lengths are everywhere, so that a window needs four different bytes to count. One alone must also have
    six that are not zero: a whole number as a float64 has three, which any random three behind zeros will match once
    in a while. Four such windows together are no chance.
    """
    octets = np.unique(found)[:, None].view(np.uint8)
    distinct = (np.diff(np.sort(octets, axis=1), axis=1) > 0).sum(1) + 1
    counted = octets[distinct >= 4]
    return bool(len(counted) >= 4 or (np.count_nonzero(counted, axis=1) >= 6).any())


def _tensors(home: Path) -> Iterator[tuple[str, Array]]:
    """Weights, integers before masking, scores, embeddings and the table's own numbers."""
    for file in ("training.safetensors", "scores.safetensors"):
        for name, value in load_file(home / "run" / file).items():
            if value.size > 1 and not name.startswith("l/generator"):
                yield f"{file}:{name}", value
    run = open_node(home).run
    run.training.refresh()
    yield "the embeddings", embeddings(run)
    if not run.is_owner:
        yield "the scores", run.placed_scores()
    for name, column in run.table.columns.items():
        if name not in run.table.categorical:
            yield f"column {name}", column


def embeddings(run: Any) -> npt.NDArray[np.float32]:
    """(F, k, n, profile) profiles of a node's customers by its current encoder; private all the way."""
    import torch

    learner = run.training.learner
    with torch.no_grad():
        return learner._net.encoder(learner._x[None].expand(run.plan.learning.replicas, -1, -1), None).numpy()


def _forms(tensor: Array) -> Iterator[tuple[bytes, int]]:
    """Little and big endian, in the tensor's own type and in the other widths of its kind; and the bytes of one number."""
    types = ("f4", "f8", "f2") if tensor.dtype.kind == "f" else (tensor.dtype.str[1:], "i8", "i4")
    for code in types:
        with np.errstate(over="ignore"):
            cast = np.nan_to_num(tensor).astype(code).ravel()
        yield cast.astype("<" + code).tobytes(), cast.itemsize
        yield cast.astype(">" + code).tobytes(), cast.itemsize


def _label_texts(home: Path, job: Job, many: int = 24) -> Iterator[tuple[str, bytes]]:
    """Labels of two dozen customers in a row: true ones where the home has them, released ones everywhere."""
    run = open_node(home).run
    columns: list[tuple[str, Array]] = []
    released, train = run.released()
    columns += [("released labels", v[train]) for v in released.values()]
    if run.is_owner:
        true = read_labels(home_of(run), job.plan.tasks).values()
        columns += [("true labels", v) for v in true] + [("true labels", v[run.spine.rows]) for v in true]
    columns.append(("slots", run._release.slots))
    for name, values in columns:
        for at in range(0, len(values) - many, many):
            part = values[at : at + many]
            for code in ("i1", "<i2", "<i4", "<i8", "<f4", "<f8"):
                if code != "i1" or name != "slots":
                    yield name, part.astype(code).tobytes()
            yield name, b"".join(b"%d" % v for v in part)
            yield name, b",".join(b"%d" % v for v in part)


def home_of(run: Any) -> Any:
    return run.home
