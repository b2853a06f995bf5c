"""The Merkle tree of RFC 6962, section 2.1, over SHA-256: roots of a growing list, and proofs that a leaf is in it.

An inclusion proof is at most ceil(log2 n) hashes, lowest first; checking one follows RFC 9162, section 2.1.3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

EMPTY = hashlib.sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass
class Tree:
    """A list that grows; it holds the roots of the whole subtrees only, one for each bit of ``size``."""

    size: int = 0
    _whole: list[bytes] = field(default_factory=list, repr=False)

    def add(self, data: bytes) -> None:
        """Takes one more leaf, by its data."""
        made, size = leaf_hash(data), self.size
        while size & 1:
            made, size = node_hash(self._whole.pop(), made), size >> 1
        self._whole.append(made)
        self.size += 1

    @property
    def root(self) -> bytes:
        """32 bytes; of an empty list the hash of nothing."""
        if not self._whole:
            return EMPTY
        *rest, made = self._whole
        for left in reversed(rest):
            made = node_hash(left, made)
        return made


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH of the leaves' data."""
    tree = Tree()
    for data in leaves:
        tree.add(data)
    return tree.root


def prove(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(index, leaves) of section 2.1.1, for an index from 0. Raises IndexError for a leaf that is not there."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    if len(leaves) == 1:
        return ()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return (*prove(leaves[:split], index), root(leaves[split:]))
    return (*prove(leaves[split:], index - split), root(leaves[:split]))


def verify_inclusion(data: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether ``data`` is leaf ``index`` of the list of ``size`` leaves whose root is ``expected``."""
    if not 0 <= index < size:
        return False
    at, last, made = index, size - 1, leaf_hash(data)
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            made = node_hash(sibling, made)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            made = node_hash(made, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and made == expected
