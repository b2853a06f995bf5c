import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.errors import DataError
from fedprofile.governance.chain import SIGNED_HEAD, START, Chain
from fedprofile.secagg.identity import Identity

ME, OTHER = Identity.from_seed(bytes(32)), Identity.from_seed(b"\1" * 32)


def chain_at(path, name="test", who=ME):
    return Chain(path, name, lambda mark: who.sign(SIGNED_HEAD, mark))


@pytest.fixture
def chain(tmp_path):
    return chain_at(tmp_path / "log.jsonl")


def test_records_come_back_in_order_under_one_signature_an_append(chain):
    first = chain.append({"n": 1})
    last = chain.append({"n": 2}, {"n": 3, "text": "客户"})
    assert [r["n"] for r in chain] == [1, 2, 3]
    assert [bool(h.signature) for h, _ in chain.lines()] == [True, False, True]
    assert (first.seq, last.seq, chain.verify(ME.sign_pk)) == (1, 3, last)
    assert [r["n"] for _, r in chain.lines(first)] == [2, 3]
    assert oct(chain.path.stat().st_mode)[-3:] == "600"


def test_an_empty_chain_has_the_start_as_its_head(chain):
    assert chain.verify(ME.sign_pk) == START
    with pytest.raises(ValueError, match="record"):
        chain.append()
    with pytest.raises(ValueError, match="key"):
        Chain(chain.path, "test").append({"n": 1})


def test_another_key_or_another_name_does_not_verify(chain):
    chain.append({"n": 1})
    with pytest.raises(DataError, match="line 1: the signature is not the holder's"):
        chain.verify(OTHER.sign_pk)
    with pytest.raises(DataError, match="line 1: the line was changed"):
        list(Chain(chain.path, "other"))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_is_refused_with_its_line(tmp_path_factory, data):
    chain = chain_at(tmp_path_factory.mktemp("flip") / "log.jsonl")
    chain.append({"n": 1})
    chain.append({"n": 2}, {"n": 3})
    chain.append({"n": 4})
    raw = bytearray(chain.path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 2))
    raw[at] ^= data.draw(st.integers(1, 255))
    chain.path.write_bytes(raw)
    line = bytes(raw[:at]).count(b"\n") + 1
    with pytest.raises(DataError, match=rf"log\.jsonl, line {line}:"):
        chain.verify(ME.sign_pk)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_line_that_is_missing_or_moved_is_refused(chain, missing):
    for n in range(3):
        chain.append({"n": n})
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(b"".join(lines[:missing] + lines[missing + 1 :]))
    with pytest.raises(DataError, match=rf"line {missing + 1}:"):
        chain.verify(ME.sign_pk)
    if missing == 2:
        with pytest.raises(DataError, match="cut"):
            chain.append({"n": 9})


def test_every_torn_tail_is_mended_and_never_read(chain):
    chain.append({"n": 1})
    whole, pin = chain.path.read_bytes(), chain.path.with_suffix(".head").read_bytes()
    chain.append({"n": 2}, {"n": 3})
    longer = chain.path.read_bytes()
    for cut in range(len(whole), len(longer), 7):
        chain.path.write_bytes(longer[:cut])
        chain.path.with_suffix(".head").write_bytes(pin)  # the crash came before the head was written
        assert [r["n"] for r in chain] == [1]
        chain.append({"n": 4})
        assert [r["n"] for r in chain] == [1, 4]
    chain.path.write_bytes(longer)
    chain.path.with_suffix(".head").write_bytes(pin)
    chain.append({"n": 4})
    assert [r["n"] for r in chain] == [1, 2, 3, 4]  # a finished append counts, though its head was lost
    assert chain.verify(ME.sign_pk).seq == 4


def test_a_chain_without_its_head_takes_no_more_lines(chain):
    chain.append({"n": 1})
    chain.path.with_suffix(".head").unlink()
    assert [r["n"] for r in chain] == [1]
    with pytest.raises(DataError, match="missing"):
        chain.append({"n": 2})
    chain.path.with_suffix(".head").write_bytes(b"{")
    with pytest.raises(DataError, match="damaged"):
        list(chain)


def test_a_full_disk_leaves_the_chain_as_it_was(chain, monkeypatch):
    chain.append({"n": 1})
    before = chain.path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            chain.append({"n": 2})
    assert chain.path.read_bytes() == before
    chain.append({"n": 3})
    assert [r["n"] for r in chain] == [1, 3]


def test_a_disk_that_is_really_full_leaves_no_hole(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        chain = chain_at(tmp_path / "log.jsonl")
        chain.append({"n": 1})
        for size in (9000, 7000):
            with pytest.raises(OSError, match="space"):
                chain.append({"n": "x" * size}, {"n": "y" * size})
            chain.append({"n": "x" * 500})
        assert [len(str(r["n"])) for r in chain] == [1, 500, 500]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_an_append_reads_nothing_but_the_end(chain):
    chain.append(*({"n": n} for n in range(50)))
    raw = chain.path.read_bytes()
    chain.path.write_bytes(b"x" * 20 + raw[20:])  # nobody who appends would notice
    head = chain.append({"n": 50})
    assert (head.seq, head.end) == (51, chain.path.stat().st_size)
    with pytest.raises(DataError, match="line 1:"):
        list(chain)


def test_two_writers_do_not_fork_the_chain(chain):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: chain_at(chain.path).append({"n": n}), range(40)))
    assert chain.verify(ME.sign_pk).seq == 40
    assert sorted(r["n"] for r in chain) == list(range(40))


def test_a_line_is_canonical_json_that_others_can_check(chain):
    import hashlib

    from fedprofile.types import canonical, digest

    chain.append({"b": 1, "a": "ü"})
    line = json.loads(chain.path.read_bytes())
    body = canonical({k: line[k] for k in ("prev", "record", "seq")})
    assert line["hash"] == digest("chain/1", b"test", body).hex()
    plain = hashlib.sha256(b"fedprofile/chain/1\0" + (4).to_bytes(8, "big") + b"test" + len(body).to_bytes(8, "big"))
    plain.update(body)
    assert line["hash"] == plain.hexdigest()
