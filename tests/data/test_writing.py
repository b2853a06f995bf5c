"""Folders are written whole or not at all; the example is accepted by the check."""

from pathlib import Path

import pytest

from fedprofile.data import writing
from fedprofile.data.example import example
from fedprofile.data.folder import load_federation
from fedprofile.errors import UsageError


@pytest.mark.parametrize("parties", [("bank", "ecommerce", "medical", "tax"), ("bank", "shop"), tuple("abcdefghij")])
def test_the_example_is_accepted(parties: tuple[str, ...], tmp_path: Path) -> None:
    writing.init_folder(tmp_path / "new" / "example", parties)
    f = load_federation(tmp_path / "new" / "example")
    assert tuple(f.tables) == parties
    assert f.label_owner == parties[0]
    assert not f.warnings
    assert f.digest == example(parties).digest
    assert all(i.startswith("EXAMPLE-") for i in f.labels.ids)


@pytest.mark.parametrize(
    "parties", [("bank",), tuple("abcdefghijk"), ("a", "a"), ("a", "yes"), ("a", "../b"), ("a", "1")]
)
def test_bad_parties_leave_nothing(parties: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        writing.init_folder(tmp_path / "x", parties)
    assert caught.value.mend
    assert not list(tmp_path.iterdir())


def test_a_full_folder_is_not_touched_and_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        writing.write_folder(example(("a", "b")), tmp_path / "full")
    monkeypatch.setattr(writing, "_labels", lambda federation: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writing.write_folder(example(("a", "b")), tmp_path / "half")
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
