"""Work on disjoint pieces of a vector, on as many threads as asked for; the result never depends on how many.

The heavy calls (AES, SHA-256, numpy over thousands of elements) run without the interpreter lock. Nodes of a
simulation share a machine, so one thread is the default everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def spread(work: Callable[[Iterator[T]], R], jobs: Iterable[T], threads: int) -> list[R]:
    """``work`` once a thread, each drawing jobs from one common queue, so that buffers are made once a thread.

    Returns what each call returned, in no order that matters; an exception of a job is raised here.
    """
    queue = deque(jobs)

    def left() -> Iterator[T]:
        while True:
            try:
                yield queue.popleft()
            except IndexError:
                return

    others = min(threads, len(queue)) - 1
    if others <= 0:
        return [work(left())]
    with ThreadPoolExecutor(others) as pool:
        futures = [pool.submit(work, left()) for _ in range(others)]
        return [work(left()), *(f.result() for f in futures)]
