from __future__ import annotations

import sys
from pathlib import Path

# The people of tests/governance, which pytest's importlib mode does not put on the path.
sys.path.insert(0, str(Path(__file__).parents[1] / "governance"))
