import fcntl
import stat

import numpy as np
import pytest

from fedprofile.errors import UsageError
from fedprofile.node.home import NodeConfig, NodeHome

CONFIG = NodeConfig("tax", "tax", "bank", "own", "simulated", ("a", "b"))


@pytest.fixture
def home(tmp_path):
    return NodeHome.create(tmp_path / "home", CONFIG)


def test_a_home_is_found_again(home):
    assert NodeHome(home.path).config == CONFIG
    assert NodeHome(home.path).derive("x") == home.derive("x")


def test_a_folder_without_a_node_is_no_home(tmp_path):
    with pytest.raises(UsageError):
        NodeHome(tmp_path)


def test_every_purpose_has_its_own_secret(home, tmp_path):
    drawn = [
        home.derive("a"), home.derive("b"), home.derive("a", b""), home.derive("a", b"x", b"y"), home.derive("a", b"xy"),
        home.derive("ax", b"y"), NodeHome.create(tmp_path / "other", CONFIG).derive("a"),
    ]  # fmt: skip
    assert len(set(drawn)) == len(drawn)
    assert {len(d) for d in drawn} == {32}


def test_own_secrets_outlive_a_run_and_only_the_user_can_read_them(tmp_path):
    config = NodeConfig("tax", "tax", "bank", "own", "simulated", (), str(tmp_path / "keys" / "tax"))
    first = NodeHome.create(tmp_path / "run1", config)
    second = NodeHome.create(tmp_path / "run2", config)
    assert first.derive("x") == second.derive("x")
    secret = tmp_path / "keys" / "tax" / "secret.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert not (first.path / "secret.key").exists()


def test_the_secret_is_nowhere_but_in_its_file(home):
    secret = (home.path / "secret.key").read_bytes()
    home.write("state", b"public")
    assert [p.name for p in home.path.rglob("*") if p.is_file() and secret in p.read_bytes()] == ["secret.key"]
    assert len(secret) == 32


def test_files_of_a_run_are_replaced_whole_and_forgotten_together(home):
    assert home.read("a") is None
    home.write("a", b"1")
    home.write("a", b"22")
    home.write("b", b"3")
    assert (home.read("a"), sorted(p.name for p in home.run.iterdir())) == (b"22", ["a", "b"])
    assert stat.S_IMODE((home.run / "a").stat().st_mode) == 0o600
    home.remove("b")
    home.remove("b")
    home.clear_run()
    assert home.read("a") is None
    assert (home.path / "secret.key").exists()


@pytest.mark.parametrize(
    "array",
    [np.array(7), np.arange(6, dtype=np.uint16).reshape(2, 3).T, np.zeros((0, 2), np.float32), np.array([1.5])],
    ids=["scalar", "transposed", "empty", "vector"],
)
def test_arrays_come_back_as_they_were(home, array):
    home.write_arrays("x", {"a": array})
    back = home.read_arrays("x")["a"]
    assert (back.shape, back.dtype, back.tolist()) == (array.shape, array.dtype, array.tolist())
    assert home.read_arrays("y") is None


def test_one_home_has_one_holder_at_a_time(home):
    with home.lock(), open(home.path / "lock", "w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(home.path / "lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
