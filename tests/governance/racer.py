"""What a process of a race runs; it imports no model, so that a thousand promotions are not mostly imports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from office import key

from fedprofile.governance.chain import SIGNED_HEAD, START
from fedprofile.governance.heads import HeadStore
from fedprofile.governance.promotion import Refused
from fedprofile.registry.home import load
from fedprofile.registry.promote import Actor, promote


def run(folder: Path, manifests: list[str], gate: Any, answers: Any, now: int) -> None:
    """Promote one after the other; the manifest of each that won, the reasons of each that did not."""
    registry = replace(load(folder), clock=lambda: now)
    registry.state()  # imports are paid before the race
    gate.wait()
    for manifest in manifests:
        try:
            promote(registry, Actor("chen", key("chen")), manifest)
            answers.put(manifest)
        except Refused as refused:
            answers.put(refused.reasons)


def climb(heads: HeadStore, gate: Any, times: int, won: Any) -> None:
    """Append lines, each on the head that was read, until ``times`` were accepted."""
    list(heads.lines())
    gate.wait()
    wins = 0
    while wins < times:
        head = START
        for head, _ in heads.lines():  # noqa: B007
            pass
        wins += heads.swap(head, {"from": head.seq}, lambda mark: key("chen").sign(SIGNED_HEAD, mark)) is not None
    won.put(wins)
