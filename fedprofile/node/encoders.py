"""What a home keeps of the last finished runs: a partner its own encoders, the label owner the partners' words on them.

::

    encoders/PLAN.safetensors   what the run of that plan left (fedprofile.models.partner_scorer); partners only
    encoders/finished.json      the last three runs in the order of finishing, the newest last

A run is finished once: asked again, after a crash on either side, a node says what it has said. The label owner
finishes exactly when all partners have, so that its order is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedprofile.acknowledging import Acknowledgement
from fedprofile.errors import DataError
from fedprofile.files import replace_private
from fedprofile.node.home import NodeHome
from fedprofile.secagg.identity import Identity
from fedprofile.types import canonical

KEPT = 3
FOLDER, _INDEX = "encoders", "finished.json"
Run = dict[str, Any]
"""plan (hex), on (day, None in a simulation), and digest and signature, or acknowledged: party -> those."""


def finished_runs(home: NodeHome) -> list[Run]:
    """The newest last. Raises DataError for a damaged file."""
    try:
        runs: list[Run] = json.loads((home.path / FOLDER / _INDEX).read_bytes())
        if not all(isinstance(run["plan"], str) and "on" in run for run in runs):
            raise ValueError
        return runs
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        mend = "Restore it from a backup; without it no earlier version is scored with partners."
        raise DataError(_INDEX, "not a list of finished runs", mend) from None


def finished_run(home: NodeHome, plan: bytes) -> Run | None:
    return next((run for run in finished_runs(home) if run["plan"] == plan.hex()), None)


def keep_encoder(home: NodeHome, identity: Identity, plan: bytes, data: Callable[[], bytes]) -> Acknowledgement:
    """A partner's: durable when it returns. ``data`` is asked for the first time only."""
    held = finished_run(home, plan)
    if held is None:
        file = _file(home, plan.hex())
        file.parent.mkdir(exist_ok=True, mode=0o700)
        replace_private(file, data())
        held = _finish(home, plan, _word(home, identity, plan).to_json())
    return Acknowledgement(bytes.fromhex(held["digest"]), bytes.fromhex(held["signature"]))


def keep_acknowledged(home: NodeHome, plan: bytes, words: Mapping[str, Acknowledgement]) -> None:
    """The label owner's."""
    if finished_run(home, plan) is None:
        _finish(home, plan, {"acknowledged": {party: word.to_json() for party, word in words.items()}})


def kept_as_signed(home: NodeHome, identity: Identity, run: Run) -> bool:
    """Whether a partner's file is the one that its word is about: digest and signature are made again."""
    try:
        word = _word(home, identity, bytes.fromhex(run["plan"])).to_json()
    except FileNotFoundError:
        return False
    return word == {key: run.get(key) for key in word}


def _word(home: NodeHome, identity: Identity, plan: bytes) -> Acknowledgement:
    return Acknowledgement.of(_file(home, plan.hex()).read_bytes(), home.derive("encoder", plan), plan, identity)


def _finish(home: NodeHome, plan: bytes, facts: Run) -> Run:
    folder = home.path / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    on = None if home.config.secrets == "simulated" else datetime.now(UTC).date().isoformat()
    runs = [*finished_runs(home), {"plan": plan.hex(), "on": on, **facts}][-KEPT:]
    replace_private(folder / _INDEX, canonical(runs))
    for file in folder.glob("*.safetensors"):
        if file.stem not in {run["plan"] for run in runs}:
            file.unlink()
    return runs[-1]


def _file(home: NodeHome, plan: str) -> Path:
    return home.path / FOLDER / f"{plan}.safetensors"
