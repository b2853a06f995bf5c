"""Scalers and multinomial logistic regression as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PENALTY = 0.1
UNSEEN = -30.0


@dataclass(frozen=True)
class Scaler:
    """(x - mean) / scale by column, then clipped to +-clip; mean and scale are (d,)."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float

    @staticmethod
    def fit(x: Array, clip: float = float("inf"), *, centre: bool = True) -> Scaler:
        """From x (n, d); without ``centre`` 0 stays 0, as it must where 0 means "no information"."""
        mean = x.mean(0) if centre else np.zeros(x.shape[1])
        return Scaler(tuple(mean.tolist()), tuple((x.std(0) + 1e-3).tolist()), clip)

    def apply(self, x: Array) -> Array:
        """(n, d) -> (n, d) float64."""
        scaled: Array = np.clip((x - np.array(self.mean)) / np.array(self.scale), -self.clip, self.clip)
        return scaled

    def to_json(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "scale": list(self.scale), "clip": self.clip if self.clip < np.inf else None}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Scaler:
        clip = float("inf") if data["clip"] is None else data["clip"]
        return Scaler(tuple(data["mean"]), tuple(data["scale"]), clip)


@dataclass(frozen=True)
class Linear:
    """softmax(scaled x @ coefficients + intercepts): coefficients (d, K), intercepts (K,)."""

    scaler: Scaler
    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]

    def predict(self, x: Array) -> Array:
        """x (n, d) -> (n, K) probabilities, float64."""
        z = self.scaler.apply(x) @ np.array(self.coefficients) + np.array(self.intercepts)
        p = np.exp(z - z.max(1, keepdims=True))
        normalised: Array = p / p.sum(1, keepdims=True)
        return normalised

    def to_json(self) -> dict[str, Any]:
        return {
            "scaler": self.scaler.to_json(),
            "coefficients": [list(row) for row in self.coefficients],
            "intercepts": list(self.intercepts),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Linear:
        rows = tuple(tuple(row) for row in data["coefficients"])
        return Linear(Scaler.from_json(data["scaler"]), rows, tuple(data["intercepts"]))


def fit_linear(x: Array, y: Array, classes: int) -> Linear:
    """Multinomial logistic regression with L2 penalty (C = .1) on standardised x (n, d) and labels y (n,)."""
    from sklearn.linear_model import LogisticRegression

    scaler = Scaler.fit(x)
    model = LogisticRegression(C=PENALTY, max_iter=300).fit(scaler.apply(x), y)
    coefficients, intercepts = np.zeros((x.shape[1], classes)), np.full(classes, UNSEEN)
    if len(model.classes_) == 2:
        # sklearn keeps one row for two classes: the logit of the second against the first.
        coefficients[:, model.classes_[1]], intercepts[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        coefficients[:, model.classes_], intercepts[model.classes_] = model.coef_.T, model.intercept_
    return Linear(scaler, tuple(map(tuple, coefficients.tolist())), tuple(intercepts.tolist()))
