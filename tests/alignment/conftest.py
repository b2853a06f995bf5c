from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def known() -> dict[str, Any]:
    """Vectors by an independent implementation; its script stands beside them."""
    return json.loads((Path(__file__).parents[1] / "vectors" / "alignment" / "psi.json").read_text())
