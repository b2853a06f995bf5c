"""A node's own commands on an empty home: what they refuse, and what they leave as it was."""

from __future__ import annotations


import pytest

from fedprofile.deployment.node import make_node, rotate
from fedprofile.errors import UsageError
from fedprofile.flower.node_key import load_node_key
from fedprofile.node.home import NodeHome


@pytest.fixture
def home(tmp_path):
    make_node(tmp_path / "tax", "tax", "tax", "Tax", None, "simulated")
    return NodeHome(tmp_path / "tax")


def test_a_rotation_that_fails_keeps_the_registered_key(tmp_path, monkeypatch):
    words = tmp_path / "words"
    words.write_text("the tax office's own words")
    make_node(tmp_path / "tax", "tax", "tax", "Tax", None, "simulated", b"the tax office's own words")
    before = {file.name: file.read_bytes() for file in (tmp_path / "tax").glob("*") if file.is_file()}
    monkeypatch.delenv("FEDPROFILE_PASSPHRASE_FILE", raising=False)
    with pytest.raises(UsageError):
        rotate(NodeHome(tmp_path / "tax"))
    assert {file.name: file.read_bytes() for file in (tmp_path / "tax").glob("*") if file.is_file()} == before
    monkeypatch.setenv("FEDPROFILE_PASSPHRASE_FILE", str(words))
    rotate(NodeHome(tmp_path / "tax"))
    load_node_key(tmp_path / "tax" / "flower.key", b"the tax office's own words")
    assert (tmp_path / "tax" / "old-flower.key").read_bytes() == before["flower.key"]


def test_a_second_rotation_does_not_overwrite_the_key_that_is_kept(home):
    first = (home.path / "flower.key").read_bytes()
    request = rotate(home)
    assert (home.path / "flower.key.pub").read_text().strip() == request.flower_key
    with pytest.raises(UsageError, match="old-flower.key is still there"):
        rotate(home)
    assert (home.path / "old-flower.key").read_bytes() == first
    for file in home.path.glob("old-*"):
        file.unlink()
    assert rotate(home).flower_key != request.flower_key
