"""A watcher of a running job on stderr: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from fedprofile.types import Progress

Observer = Callable[["Progress"], None]


@contextmanager
def watch(*, quiet: bool, stream: TextIO | None = None) -> Iterator[Observer | None]:
    """Yields the observer for ``train``, None when quiet; closes the bar at the end, whatever happened."""
    stream = stream or sys.stderr
    if quiet:
        yield None
    elif stream.isatty():
        with _bar(stream) as bar:
            yield _Bar(bar)
    else:
        yield _Lines(stream)


def _bar(stream: TextIO) -> Any:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description:<14}"),
        progress.BarColumn(bar_width=20),
        progress.TextColumn("{task.fields[counted]:>7}"),
        progress.TextColumn("{task.fields[loss]:<11}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[left]}"),
        console=Console(file=stream),
    )


class _Stage:
    """Time of the present stage: elapsed and, from its finished rounds, left."""

    def __init__(self) -> None:
        self.name = ""
        self.began = time.monotonic()

    def is_new(self, name: str) -> bool:
        if name == self.name:
            return False
        self.name, self.began = name, time.monotonic()
        return True

    def left(self, step: Progress) -> str:
        """Words for the time left, empty while it is unknown."""
        if not 0 < step.round < step.rounds:
            return ""
        seconds = (time.monotonic() - self.began) / step.round * (step.rounds - step.round)
        return f"{seconds // 60:.0f}m {seconds % 60:02.0f}s left" if seconds >= 60 else f"{seconds:.0f}s left"


class _Lines:
    """One line a step, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.stage = stream, _Stage()

    def __call__(self, step: Progress) -> None:
        self.stage.is_new(step.stage)
        words = [step.stage, _counted(step) and f"round {_counted(step)}", _loss(step), self.stage.left(step)]
        print("  ".join(word for word in words if word), file=self.stream, flush=True)


class _Bar:
    """One bar a stage; a finished stage stays as a full bar."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.stage = bar, _Stage()
        self.task: Any = None

    def __call__(self, step: Progress) -> None:
        if self.stage.is_new(step.stage):
            self._finish()
            self.task = self.bar.add_task(step.stage, total=None, counted="", loss="", left="")
        fields = {"counted": _counted(step), "left": self.stage.left(step)}
        if step.loss is not None:
            fields["loss"] = _loss(step)
        self.bar.update(self.task, total=step.rounds or None, completed=step.round, **fields)

    def _finish(self) -> None:
        if self.task is not None:
            self.bar.update(self.task, total=1, completed=1, left="")
            self.bar.stop_task(self.task)


def _counted(step: Progress) -> str:
    return f"{step.round}/{step.rounds}" if step.rounds else ""


def _loss(step: Progress) -> str:
    return "" if step.loss is None else f"loss {step.loss:.4f}"
