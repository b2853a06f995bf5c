"""Kill this process at a named stage, for tests of what a crash leaves: ``FEDPROFILE_CRASH_AT=stage[:nth]``.

Stages of a node: "invited" (a message was pulled and noted), "keys" (a key pair was drawn, nothing answered yet),
"training" (trained, not yet masked), "uploading" (the reply is announced, its bytes are not up), "uploaded" (before
the acknowledgement). Of the coordinator: "asked" (requests are out), "summed" (a sum is open, not yet saved).
``FEDPROFILE_CRASH_MARK=file`` besides lets it happen once: not where the file exists, which is made first.
Unset, as everywhere but in tests, this does nothing.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE, MARK = "FEDPROFILE_CRASH_AT", "FEDPROFILE_CRASH_MARK"
_passed: Counter[str] = Counter()


def crash_at(stage: str) -> None:
    """SIGKILL at the ``nth`` (default first) time that this process comes by the stage that the variable names."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, nth = wanted.partition(":")
    _passed[stage] += 1
    if stage != name or _passed[stage] != int(nth or 1):
        return
    if mark := os.environ.get(MARK):
        if os.path.exists(mark):
            return
        open(mark, "x").close()
    os.kill(os.getpid(), signal.SIGKILL)
