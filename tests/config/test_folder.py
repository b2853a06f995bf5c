"""Run folders are refused when in use, and named like Hydra names them."""

from __future__ import annotations

import re

import pytest

from fedprofile.config.folder import fresh, hold, home, refuse_used
from fedprofile.errors import ConfigError, UsageError


def test_free_folders_pass(tmp_path):
    refuse_used(tmp_path / "absent")
    refuse_used(tmp_path)
    (tmp_path / ".hydra").mkdir()
    refuse_used(tmp_path)


def test_used_folders_are_refused_with_both_ways_out(tmp_path):
    (tmp_path / "report.json").touch()
    with pytest.raises(UsageError, match=r"not empty.*run\.dir.*--resume"):
        refuse_used(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        refuse_used(tmp_path / "report.json")


def test_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDPROFILE_HOME", raising=False)
    assert home() == tmp_path / "outputs"
    monkeypatch.setenv("FEDPROFILE_HOME", "elsewhere")
    assert home() == tmp_path / "elsewhere"
    assert re.fullmatch(rf"{home()}/\d{{4}}-\d\d-\d\d/\d\d-\d\d-\d\d", str(fresh()))
    monkeypatch.setenv("FEDPROFILE_HOME", "")
    with pytest.raises(ConfigError):
        home()


def test_one_process_at_a_time_holds_a_run_folder(tmp_path):
    (tmp_path / ".hydra").mkdir()
    with hold(tmp_path), pytest.raises(UsageError, match="still going on"), hold(tmp_path):
        pass
    with hold(tmp_path):
        refuse_used(tmp_path)
