"""A node's root secret: plain or encrypted, and where its passphrase comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedprofile.errors import UsageError
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.node.secret import CREDENTIAL, FILE, VARIABLE, encode_secret, find_passphrase, read_secret

SECRET, WORDS = bytes(range(32)), b"seven words of a node's people"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    words = tmp_path / "words"
    words.write_bytes(WORDS + b"\n")
    monkeypatch.setenv(VARIABLE, str(words))
    return words


def test_encrypted_the_file_holds_nothing_of_the_secret(file: Path, given: Path) -> None:
    file.write_bytes(encode_secret(SECRET, WORDS))
    assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert SECRET not in file.read_bytes()
    assert read_secret(file) == SECRET
    given.write_text("another passphrase")
    with pytest.raises(UsageError, match="does not open"):
        read_secret(file)


def test_plain_it_is_32_bytes_and_nothing_else(file: Path) -> None:
    file.write_bytes(encode_secret(SECRET, None))
    assert read_secret(file) == SECRET
    file.write_bytes(SECRET[:-1])
    with pytest.raises(UsageError, match="damaged"):
        read_secret(file)


def test_a_service_takes_it_from_its_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CREDENTIAL).write_bytes(WORDS)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert find_passphrase(new=True) == WORDS
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="cannot be read"):
        find_passphrase()


def test_without_a_terminal_or_a_file_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(UsageError, match=VARIABLE):
        find_passphrase()


def test_a_short_one_is_refused_for_a_new_node(given: Path) -> None:
    given.write_text("short")
    assert find_passphrase() == b"short"
    with pytest.raises(UsageError, match="fewer than 12"):
        find_passphrase(new=True)


def test_a_home_derives_the_same_from_either(tmp_path: Path, given: Path) -> None:
    config = NodeConfig("tax", "tax", "bank", "own", "ledger")
    made = NodeHome.create(tmp_path / "home", config, passphrase=WORDS)
    before = made.derive("identity")
    assert NodeHome(tmp_path / "home").derive("identity") == before
    (tmp_path / "home" / FILE).write_bytes(read_secret(tmp_path / "home" / FILE))
    given.unlink()
    assert NodeHome(tmp_path / "home").derive("identity") == before
