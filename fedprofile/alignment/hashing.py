"""Splits, folds and members by customer hash: every party computes the same value from the id it already holds."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.str_]
TRAIN_BELOW, VALID_BELOW = 60, 80


def split_bucket(ids: Ids, fold: int = 0) -> npt.NDArray[np.int64]:
    """(n,) in 0..99: < 60 train, < 80 validation, else test; ``fold`` 0..4 rotates by 20 (DESIGN 3)."""
    prefix = b"fedprofile/split/1/"
    buckets = [int.from_bytes(hashlib.sha256(prefix + str(i).encode()).digest(), "big") % 100 for i in ids]
    return (np.array(buckets, dtype=np.int64) + 20 * fold) % 100


def uniform(ids: Ids, salt: str) -> npt.NDArray[np.float64]:
    """(n,) in [0, 1): the first 48 bits of SHA-256(salt | id)."""
    prefix = salt.encode() + b"|"
    return np.array([int.from_bytes(hashlib.sha256(prefix + str(i).encode()).digest()[:6], "big") / 2**48 for i in ids])


def cross_fit_fold(ids: Ids, replicas: int) -> npt.NDArray[np.int64]:
    """(n,) in 0..replicas-1, the same at every node, so that no replica anywhere sees its held-out customers."""
    return (uniform(ids, "fold") * replicas).astype(np.int64)


def row_order(ids: Ids) -> npt.NDArray[np.int64]:
    """(n,) positions of the ids in the order in which every node keeps its aligned rows: by a public hash of the id.

    Slots change with every run; equal tables and seeds still train in equal batches, however a table is stored.
    """
    marks = [hashlib.sha256(b"fedprofile/row/1" + str(i).encode()).digest() for i in ids]
    return np.array(sorted(range(len(marks)), key=marks.__getitem__), dtype=np.int64)


def member_of(ids: Ids, role: str, members: int) -> npt.NDArray[np.int64]:
    """(n,) in 0..members-1: which member of a role holds the customer in a simulated federation."""
    return (uniform(ids, f"member/{role}") * members).astype(np.int64)
