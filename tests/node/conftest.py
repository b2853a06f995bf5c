from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fedprofile.messages import Envelope
from fedprofile.secagg.round_messages import Round


@pytest.fixture
def change() -> Callable[..., bytes]:
    """The round inside one part of a request, with some fields changed; those of RoundId by their own names."""

    def changed(world: Any, request: bytes, part: int = 0, **fields: Any) -> bytes:
        round = Round.decode(Envelope.decode(request).parts[part], world.job.roster)
        inner = {k: fields.pop(k) for k in list(fields) if k in ("kind", "scope", "t", "attempt", "opener")}
        return replace(round, id=replace(round.id, **inner), **fields).encode()

    return changed
