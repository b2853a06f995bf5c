from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

# The people of tests/governance, which pytest's importlib mode does not put on the path.
sys.path.insert(0, str(Path(__file__).parents[1] / "governance"))


@pytest.fixture(scope="module")
def model() -> Any:
    from desk import small_model

    return small_model()


@pytest.fixture
def desk(tmp_path: Path, model: Any) -> Any:
    from desk import Desk

    return Desk(tmp_path, model)
