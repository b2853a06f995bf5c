"""A small bank with two tasks and sums from partners, fitted once for all tests of the room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from fedprofile.models import tabular_net
from fedprofile.models.bank import BankData, BankModels, fit_bank
from fedprofile.types import Table, Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))


class Small(NamedTuple):
    data: BankData
    sums: np.ndarray
    known: np.ndarray
    bank: BankModels


def small_data(n: int = 600) -> tuple[BankData, np.ndarray, np.ndarray]:
    """Half of what decides is in the bank's columns, half in the sums; a third is known to nobody."""
    rng = np.random.default_rng(0)
    own, theirs = rng.normal(size=(2, n))
    city = rng.choice(["north", "south", "east"], n).astype(object)
    city[:20], age = None, own * 10 + 40
    age[10:30] = np.nan
    total = own + theirs + 0.2 * (city == "north")
    labels = {"tier": np.digitize(total, [-0.7, 0.7]).astype(np.int64), "need": (total > 0.3).astype(np.int64)}
    labels["need"][5:15] = -1
    ids = np.array([f"c{i}" for i in range(n)])
    table = Table(ids, {"age": age, "city": city, "noise": rng.normal(size=n)}, frozenset({"city"}))
    known = np.where(rng.random((n, 1)) < 0.33, 0.0, rng.integers(0, 2, (n, 2)))
    covered = (known != 0).any(1, keepdims=True)
    sums = np.where(covered, theirs[:, None] * 2 + rng.normal(size=(n, 3)) * 0.3, 0.0)
    at = np.arange(n)
    return BankData(table, labels, at < 360, (at >= 360) & (at < 480)), sums, known


@pytest.fixture(scope="session")
def few_steps() -> Iterator[None]:
    """A quarter of the network's steps: enough for data this simple."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabular_net, "STEPS", 100)
        yield


@pytest.fixture(scope="session")
def small(few_steps: None) -> Small:
    data, sums, known = small_data()
    return Small(data, sums, known, fit_bank(data, TASKS, 0))
