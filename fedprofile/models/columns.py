"""How one column becomes features: the codes that a ``FeatureMap`` is made of, as plain numbers (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from fedprofile.types import digest

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.float32]
BUCKETS = 1024
_CLIP = 1e-3


class ColumnCode(Protocol):
    """One column's code: ``encode`` takes its (n,) values to (n, width) float32."""

    @property
    def column(self) -> str: ...
    @property
    def width(self) -> int: ...
    def encode(self, values: npt.NDArray[Any]) -> Codes: ...
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Distribution:
    """A cumulative distribution in increasing knots: the share of rows ``below`` and ``upto`` each one.

    A knot with below < upto holds tied rows; between knots the share grows linearly.
    """

    knots: tuple[float, ...]
    below: tuple[float, ...]
    upto: tuple[float, ...]

    @staticmethod
    def of(counted: Sequence[tuple[float, float, float]], n: float) -> Distribution:
        """From (knot, rows below, rows up to) of ``n`` rows."""
        return Distribution(
            tuple(float(k) for k, _, _ in counted),
            tuple(float(b / n) for _, b, _ in counted),
            tuple(float(u / n) for _, _, u in counted),
        )

    def mid_rank(self, x: Floats) -> Floats:
        """P(X < x) + P(X = x) / 2 for finite or infinite x, linear between knots."""
        k, below, upto = (np.asarray(v) for v in (self.knots, self.below, self.upto))
        right = np.searchsorted(k, x, "left")
        r, left = np.minimum(right, len(k) - 1), np.maximum(right - 1, 0)
        gap = np.where(r > left, k[r] - k[left], 1.0)
        with np.errstate(invalid="ignore"):
            share = np.clip((x - k[left]) / gap, 0, 1)
        between = upto[left] + share * (below[r] - upto[left])
        u = np.where(right == 0, below[0] / 2, np.where(right == len(k), (upto[-1] + 1) / 2, between))
        rank: Floats = np.where((right < len(k)) & (k[r] == x), (below[r] + upto[r]) / 2, u)
        return rank

    def normal_score(self, x: Floats) -> Floats:
        """The normal quantile of the mid-rank, which is clipped to [.001, .999]."""
        score: Floats = ndtri(np.clip(self.mid_rank(x), _CLIP, 1 - _CLIP))
        return score

    def quantiles(self, levels: Floats) -> Floats:
        """The inverse, inside the knots."""
        steps = np.ravel(np.column_stack([self.below, self.upto]))
        values: Floats = np.interp(levels, steps, np.repeat(self.knots, 2))
        return values


@dataclass(frozen=True)
class Numeric:
    """[missing flag], then a standardised normal score, then the piecewise-linear code over ``edges``.

    ``edges`` is empty, or b + 1 increasing values for b features clip((x - e_j) / (e_j+1 - e_j), 0, 1);
    ``threshold`` replaces both by -1/+1 for a two-valued column; a constant column keeps its flag only.
    Missing is 0 in all of them (code: Gorishniy et al. 2022).
    """

    column: str
    missing: bool
    distribution: Distribution | None = None
    mean: float = 0.0
    deviation: float = 1.0
    edges: tuple[float, ...] = ()
    threshold: float | None = None

    @property
    def width(self) -> int:
        scalar = self.threshold is not None or self.distribution is not None
        return int(self.missing) + int(scalar) + max(len(self.edges) - 1, 0)

    def encode(self, values: npt.NDArray[Any]) -> Codes:
        x = np.asarray(values, np.float64)
        absent = np.isnan(x)
        parts: list[npt.NDArray[Any]] = [absent[:, None]] if self.missing else []
        filled = np.where(absent, 0.0, x)[:, None]
        if self.threshold is not None:
            parts.append(np.where(absent[:, None], 0.0, np.where(filled > self.threshold, 1.0, -1.0)))
        elif self.distribution is not None:
            score = (self.distribution.normal_score(filled) - self.mean) / self.deviation
            e = np.asarray(self.edges)
            pieces = [np.clip((filled - e[:-1]) / np.diff(e), 0, 1)] if len(e) else []
            parts.append(np.where(absent[:, None], 0.0, np.hstack([score, *pieces])))
        return np.hstack(parts).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        nested = None if self.distribution is None else dict(vars(self.distribution))
        return {"kind": "numeric", **vars(self), "distribution": nested}


@dataclass(frozen=True)
class Levels:
    """One-hot of ``levels`` (None is the missing level), then one column for rare and unseen ones."""

    column: str
    levels: tuple[str | None, ...]

    @property
    def width(self) -> int:
        return len(self.levels) + 1

    def encode(self, values: npt.NDArray[Any]) -> Codes:
        at = {v: i for i, v in enumerate(self.levels)}
        return one_hot([at.get(v, len(at)) for v in values], self.width)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "levels", **asdict(self)}


@dataclass(frozen=True)
class Hashed:
    """One-hot of the hash ``buckets`` that hold enough rows, then one column for all others."""

    column: str
    buckets: tuple[int, ...]

    @property
    def width(self) -> int:
        return len(self.buckets) + 1

    def encode(self, values: npt.NDArray[Any]) -> Codes:
        at = {b: i for i, b in enumerate(self.buckets)}
        return one_hot([at.get(b, len(at)) for b in hash_buckets(values)], self.width)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "hashed", **asdict(self)}


def one_hot(at: Sequence[int], width: int) -> Codes:
    out = np.zeros((len(at), width), np.float32)
    out[np.arange(len(at)), np.asarray(at, np.int64)] = 1
    return out


def hash_buckets(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n,) levels (str, or None for missing) -> (n,) buckets in 0..1023 by SHA-256."""
    known: dict[str | None, int] = {}
    for v in values:
        if v not in known:
            part = b"\0" if v is None else b"\1" + v.encode()
            known[v] = int.from_bytes(digest("grid/level/1", part)[:8], "big") % BUCKETS
    return np.array([known[v] for v in values], np.int64)


def numeric_code(
    name: str, missing: bool, distribution: Distribution, distinct: int, x: Floats, rows: Floats, bins: int
) -> ColumnCode | None:
    """The code of a column from its distribution; None if it carries nothing.

    distinct: how many values or buckets the column has. x, rows: (m,) points and how many rows lie at each,
    for the moments of the normal score.
    """
    flag = Numeric(name, True) if missing else None
    if len(distribution.knots) < 2:
        return flag
    if distinct == 2:
        return Numeric(name, missing, threshold=float(np.mean(distribution.quantiles(np.array([0.0, 1.0])))))
    score = distribution.normal_score(x)
    mean = float(np.average(score, weights=rows))
    deviation = float(np.sqrt(np.average((score - mean) ** 2, weights=rows))) + 1e-6
    edges = np.unique(distribution.quantiles(np.linspace(0, 1, bins + 1)))
    pieces = tuple(float(e) for e in edges) if len(edges) > 2 else ()
    return Numeric(name, missing, distribution, mean, deviation, pieces)


def column_from_json(data: Mapping[str, Any]) -> ColumnCode:
    """The inverse of ``to_json`` of any code; ValueError for an unknown kind."""
    body: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
    if data["kind"] == "numeric":
        if (d := body["distribution"]) is not None:
            body["distribution"] = Distribution(tuple(d["knots"]), tuple(d["below"]), tuple(d["upto"]))
        return Numeric(**body)
    if data["kind"] == "levels":
        return Levels(**body)
    if data["kind"] == "hashed":
        return Hashed(**body)
    raise ValueError("unknown kind of column in a feature map")
