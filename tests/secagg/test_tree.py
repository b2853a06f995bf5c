"""The hash tree: the formula read aloud, any number of threads, and no leaf that passes for a root."""

from __future__ import annotations

from hashlib import sha256

import pytest

from fedprofile.secagg.tree import LEAF, tree_root


@pytest.mark.parametrize("size", [0, 1, LEAF - 1, LEAF, LEAF + 1, 3 * LEAF + 7])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_root_is_the_specified_hash(size, threads):
    data = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
    data = data[:size]
    leaves = b"".join(sha256(b"\0" + data[at : at + LEAF]).digest() for at in range(0, size, LEAF))
    expected = sha256(b"\1" + size.to_bytes(8, "big") + leaves).digest()
    assert tree_root(data, threads=threads) == tree_root(memoryview(bytearray(data)), threads=threads) == expected


def test_a_vector_of_leaf_hashes_has_another_root():
    data = bytes(2 * LEAF)
    leaves = b"".join(sha256(b"\0" + data[at : at + LEAF]).digest() for at in (0, LEAF))
    assert len({tree_root(data), tree_root(leaves), sha256(leaves).digest()}) == 3
