"""SHA-256 tree over a masked vector: leaves of 1 MiB, hashed while in cache, under one root (section 9.6)."""

from __future__ import annotations

import hashlib

from fedprofile.secagg.wire import Buffer

LEAF = 1 << 20


def tree_root(data: Buffer) -> bytes:
    """Root = SHA-256(1 || length || leaves), leaf = SHA-256(0 || chunk): no leaf can pass for a root."""
    view = memoryview(data).cast("B")
    root = hashlib.sha256(b"\x01" + view.nbytes.to_bytes(8, "big"))
    for at in range(0, view.nbytes, LEAF):
        leaf = hashlib.sha256(b"\x00")
        leaf.update(view[at : at + LEAF])
        root.update(leaf.digest())
    return root.digest()
