"""What a watcher sees of a run: lines in a log, a bar on a terminal, nothing when quiet."""

from __future__ import annotations

import io

import pytest

from fedprofile.cli import progress
from fedprofile.types import Progress

STEPS = [Progress("set-up"), *(Progress("rounds", t, 3, 1.0 / (t + 1)) for t in range(4)), Progress("fusion")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    ticks = iter(range(0, 100_000, 50))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))
    with progress.watch(quiet=False, stream=stream) as observer:
        for step in STEPS:
            observer(step)
    return stream.getvalue()


def test_lines(monkeypatch):
    assert shown(io.StringIO(), monkeypatch).splitlines() == [
        "set-up",
        "rounds  round 0/3  loss 1.0000",
        "rounds  round 1/3  loss 0.5000  1m 40s left",
        "rounds  round 2/3  loss 0.3333  50s left",
        "rounds  round 3/3  loss 0.2500",
        "fusion",
    ]


def test_a_bar_shows_stage_round_and_loss(monkeypatch):
    said = shown(Terminal(), monkeypatch)
    for word in ("set-up", "rounds", "3/3", "loss 0.2500", "fusion"):
        assert word in said


def test_quiet_watches_nothing():
    stream = Terminal()
    with progress.watch(quiet=True, stream=stream) as observer:
        assert observer is None
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_a_failing_job_closes_the_bar_and_is_not_swallowed(stream):
    def job() -> None:
        with progress.watch(quiet=False, stream=stream) as observer:
            observer(STEPS[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        job()
