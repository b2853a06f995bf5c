"""`ui` serves the named store, or the one under the home if it exists."""

from __future__ import annotations

import pytest

from fedprofile.cli.main import main


@pytest.fixture
def served(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path))
    calls = []
    monkeypatch.setattr("fedprofile.mlflow_io.ui.serve", lambda *how: calls.append(how) or 0)
    return calls


def test_the_default_store(served, tmp_path, capsys):
    assert main(["ui"]) == 2
    assert "fedprofile train" in capsys.readouterr().err
    (tmp_path / "mlflow.db").touch()
    assert main(["ui", "--port", "5001"]) == 0
    assert served == [(f"sqlite:///{tmp_path}/mlflow.db", 5001)]


def test_a_named_store(served, tmp_path):
    file = tmp_path / "other.db"
    file.touch()
    assert main(["ui", "--uri", f"sqlite:///{file}"]) == 0
    assert served == [(f"sqlite:///{file}", 5000)]
