"""Sealing to one node (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM), and the label release that is sealed.

The payload is ``slots`` (uint32, little-endian) then one signed byte a task and customer (-1 = missing),
behind a canonical JSON head. HPKE alone does not say who sealed, so the label owner signs the sealed bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from fedprofile.errors import RemoteProtocolError
from fedprofile.types import Task, canonical, digest

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
Sealed = Literal["release", "alignment"]
_DOMAINS: dict[Sealed, str] = {"release": "label-release", "alignment": "alignment-letter"}
SEAL_OVERHEAD = 32 + 16
"""Bytes that sealing adds: the encapsulated key and the tag."""


@dataclass(frozen=True)
class LabelRelease:
    """Randomised labels for m customers by spine slot: labels[task] (m,) int64, priors[task] (K,).

    ``fold`` only where labels of nobody stand among them (``align=union``): by it a partner finds the training
    customers among its own, which the slots of the release no longer show.
    """

    slots: npt.NDArray[np.int64] = field(repr=False)
    labels: Mapping[str, npt.NDArray[np.int64]] = field(repr=False)
    priors: Mapping[str, tuple[float, ...]]
    eps: float | None
    fold: int | None = None

    def encode(self, tasks: tuple[Task, ...]) -> bytes:
        facts = {"m": len(self.slots), "priors": {k: list(v) for k, v in self.priors.items()}, "eps": self.eps}
        head = canonical(facts if self.fold is None else facts | {"fold": self.fold})
        columns = np.stack([self.labels[t.name] for t in tasks]).astype(np.int8)
        return len(head).to_bytes(4, "big") + head + self.slots.astype("<u4").tobytes() + columns.tobytes()

    @staticmethod
    def decode(data: bytes, tasks: tuple[Task, ...]) -> LabelRelease:
        """Raises RemoteProtocolError("bad_release") on any length or range that does not fit ``tasks``."""
        try:
            size = int.from_bytes(data[:4], "big")
            head = json.loads(data[4 : 4 + size])
            m, body = int(head["m"]), data[4 + size :]
            if len(body) != m * (4 + len(tasks)):
                raise ValueError("length")
            slots = np.frombuffer(body[: 4 * m], "<u4").astype(np.int64)
            columns = np.frombuffer(body[4 * m :], np.int8).reshape(len(tasks), m).astype(np.int64)
            for task, column in zip(tasks, columns, strict=True):
                if ((column < -1) | (column >= task.classes)).any():
                    raise ValueError("range")
            priors = {t.name: tuple(float(v) for v in head["priors"][t.name]) for t in tasks}
            if any(len(priors[t.name]) != t.classes for t in tasks):
                raise ValueError("priors")
            eps = None if head["eps"] is None else float(head["eps"])
            fold = head.get("fold")
            if fold is not None and (type(fold) is not int or not 0 <= fold < 5):
                raise ValueError("fold")
        except (ValueError, KeyError, TypeError, OverflowError):
            raise RemoteProtocolError("bad_release", "the label release does not fit the plan's tasks") from None
        return LabelRelease(slots, {t.name: c for t, c in zip(tasks, columns, strict=True)}, priors, eps, fold)


def _info(what: Sealed, plan_hash: bytes, party: str) -> bytes:
    return digest(f"{_DOMAINS[what]}/1", plan_hash, party.encode())


def seal(plain: bytes, recipient_pk: bytes, plan_hash: bytes, party: str, what: Sealed = "release") -> bytes:
    """Encrypt to ``party``'s raw X25519 key, bound to this run's plan, the party's name and what it is."""
    return _SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(recipient_pk), info=_info(what, plan_hash, party))


def unseal(sealed: bytes, key: X25519PrivateKey, plan_hash: bytes, party: str, what: Sealed = "release") -> bytes:
    """Raises RemoteProtocolError (bad_release, bad_alignment): sealed to another party, run or key, or as other."""
    try:
        return _SUITE.decrypt(sealed, key, info=_info(what, plan_hash, party))
    except (InvalidTag, ValueError):
        raise RemoteProtocolError(f"bad_{what}", "what was sealed does not open with this node's key") from None
