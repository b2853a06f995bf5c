from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedprofile.governance.ledger import FILE, ConsentLedger
from fedprofile.secagg.identity import Identity

# Test modules share office, which pytest's importlib mode does not put on the path.
sys.path.insert(0, str(Path(__file__).parent))

SUBJECT_KEY = bytes(range(32))


@dataclass
class Clock:
    """UTC seconds that a test turns by hand."""

    time: int = 1000

    def __call__(self) -> int:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_ledger(clock) -> Callable[..., ConsentLedger]:
    def make(folder: Any, **changes: Any) -> ConsentLedger:
        fields = {"holder": "tax", "identity": Identity.from_seed(bytes(32)), "subject_key": SUBJECT_KEY}
        ledger = ConsentLedger(folder / FILE, **(fields | {"clock": clock} | changes))
        ledger.create()
        return ledger

    return make


@pytest.fixture
def ledger(tmp_path, make_ledger) -> ConsentLedger:
    return make_ledger(tmp_path)
