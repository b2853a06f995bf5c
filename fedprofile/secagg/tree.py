"""SHA-256 tree over a masked vector or a model: leaves of 1 MiB, hashed in cache, under one root (section 9.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fedprofile.secagg.threads import spread
from fedprofile.secagg.wire import Buffer

LEAF = 1 << 20


def tree_root(data: Buffer, *, threads: int = 1) -> bytes:
    """Root = SHA-256(1 || length || leaves), leaf = SHA-256(0 || chunk): no leaf can pass for a root."""
    view = memoryview(data).cast("B")
    leaves: dict[int, bytes] = {}

    def work(jobs: Iterator[int]) -> None:
        for at in jobs:
            leaf = hashlib.sha256(b"\x00")
            leaf.update(view[at : at + LEAF])
            leaves[at] = leaf.digest()

    spread(work, range(0, view.nbytes, LEAF), threads)
    root = hashlib.sha256(b"\x01" + view.nbytes.to_bytes(8, "big"))
    for at in sorted(leaves):
        root.update(leaves[at])
    return root.digest()
