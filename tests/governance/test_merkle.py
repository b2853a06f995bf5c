"""RFC 6962 by the known answers of Certificate Transparency's reference tests, and by its own definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.governance.merkle import EMPTY, leaf_hash, node_hash, prove, root, verify_inclusion

LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
PATHS = {
    (0, 1): (),
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}


def test_roots_of_the_reference_tests():
    assert tuple(root(LEAVES[:n]).hex() for n in range(9)) == ROOTS
    assert root([]) == EMPTY


@pytest.mark.parametrize(("index", "size"), list(PATHS))
def test_paths_of_the_reference_tests(index, size):
    proof = prove(LEAVES[:size], index)
    assert tuple(p.hex() for p in proof) == PATHS[index, size]
    assert verify_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(ROOTS[size]))


def defined(leaves):
    """MTH as section 2.1 writes it."""
    if len(leaves) < 2:
        return leaf_hash(leaves[0]) if leaves else EMPTY
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(defined(leaves[:k]), defined(leaves[k:]))


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=70), st.data())
def test_a_proof_is_short_and_proves_one_leaf_in_one_place(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    made, proof, size = root(leaves), prove(leaves, index), len(leaves)
    assert made == defined(leaves)
    assert len(proof) <= (size - 1).bit_length()
    assert verify_inclusion(leaves[index], index, size, proof, made)
    assert not verify_inclusion(leaves[index] + b"x", index, size, proof, made)
    assert not verify_inclusion(leaves[index], index, size, (*proof, made), made)
    if proof:
        broken = (*proof[:-1], bytes([proof[-1][0] ^ 1]) + proof[-1][1:])
        assert not verify_inclusion(leaves[index], index, size, broken, made)
        assert not verify_inclusion(leaves[index], index, size, proof[:-1], made)


@pytest.mark.parametrize("index", [-1, 8])
def test_what_is_not_there_has_no_proof(index):
    with pytest.raises(IndexError):
        prove(LEAVES, index)
    assert not verify_inclusion(b"", index, 8, (), root(LEAVES))
