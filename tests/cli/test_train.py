"""`train` checks everything before it writes, hands over to the job, and shows what comes back.

The job itself is a stand-in here: only the hand-over is tested.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fedprofile.cli.main import main
from fedprofile.config.compose import read
from fedprofile.errors import DataError
from fedprofile.types import Progress

REPORT = {"schema_version": 1, "tasks": {}, "seconds": {"rounds": 1.0}, "learning_curve": {"loss": [1.0] * 999}}


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Records the calls; ``job.fail`` maps a seed to what that run raises, after it wrote ``state`` if asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDPROFILE_HOME", raising=False)
    log = SimpleNamespace(calls=[], sweeps=[], fail={}, begun=True)

    def train(config=None, *, observer=None, resume=None, parent=None, register=None):
        log.calls.append(SimpleNamespace(config=config, resume=resume, parent=parent, register=register))
        folder = Path(resume or config.run.dir)
        if observer is not None:
            observer(Progress("rounds", 1, 2, 0.5))
        if log.begun:
            (folder / "state").touch()
        error = log.fail.get(None if config is None else config.seed)
        if error is not None:
            raise error
        return SimpleNamespace(report=REPORT, run_dir=folder, bundle=folder / "bundle")

    @contextmanager
    def open_sweep(config):
        log.sweeps.append(config)
        yield "parent-id"

    module = ModuleType("fedprofile.simulation.job")
    module.train, module.open_sweep = train, open_sweep
    monkeypatch.setitem(sys.modules, module.__name__, module)
    table = ModuleType("fedprofile.report.table")
    table.render = lambda report: "THE TABLE"
    monkeypatch.setitem(sys.modules, table.__name__, table)
    return log


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_single_run(job, tmp_path, capsys):
    assert main(["train", "seed=3", "run.dir=here"]) == 0
    (call,) = job.calls
    assert (call.config.seed, call.parent, call.register) == (3, None, None)
    assert read(tmp_path / "here") == call.config
    said = capsys.readouterr()
    assert said.out == "THE TABLE\n"
    assert said.err == "rounds  round 1/2  loss 0.5000\n" or said.err.startswith("rounds  round 1/2  loss 0.5000")


def test_json_is_the_summary_and_quiet_is_quiet(job, tmp_path, capsys):
    assert main(["train", "-q", "--json", "run.dir=here"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    summary = json.loads(said.out)
    assert summary["run_dir"] == str(tmp_path / "here")
    assert "learning_curve" not in summary
    assert summary["seconds"] == {"rounds": 1.0}


@pytest.mark.parametrize("argv", [["learning.ruonds=3"], ["-m", "seed=1,2", "data.fold=0,9"], ["seed=1,2"]])
def test_a_mistake_is_2_and_writes_nothing(argv, job, tmp_path, capsys):
    assert main(["train", *argv]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
    assert job.calls == []


@pytest.mark.parametrize("argv", [["run.dir=here"], ["-m", "seed=1,2", "run.dir=here"]])
def test_a_used_run_folder_is_refused_untouched(argv, job, tmp_path, capsys):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("x")
    assert main(["train", *argv]) == 2
    assert "not empty" in capsys.readouterr().err
    assert written(tmp_path) == ["here/mine.txt"]


def test_overrides_may_stand_on_both_sides_of_an_option(job):
    assert main(["train", "seed=9", "-m", "seed=1,2", "-q", "data.fold=3"]) == 0
    assert [(c.config.seed, c.config.data.fold) for c in job.calls] == [(1, 3), (2, 3)]


def test_a_sweep_is_nested_never_registers_and_goes_on_after_a_failed_job(job, tmp_path, capsys):
    job.fail[2] = DataError("a.csv", "is empty")
    assert main(["train", "-m", "seed=1,2,3", "run.dir=here", "--json"]) == 1
    assert [(c.config.seed, c.parent, c.register) for c in job.calls] == [(s, "parent-id", False) for s in (1, 2, 3)]
    assert [c.config.run.dir for c in job.calls] == [str(tmp_path / "here" / str(n)) for n in range(3)]
    assert len(job.sweeps) == 1
    said = capsys.readouterr()
    assert [Path(summary["run_dir"]).name for summary in json.loads(said.out)] == ["0", "2"]
    assert "error: job 2/3: a.csv: is empty" in said.err
    assert "1 of 3 jobs failed" in said.err


def test_a_run_that_never_began_leaves_nothing(job, tmp_path, capsys):
    job.begun, job.fail[0] = False, DataError("a.csv", "is empty")
    assert main(["train", "run.dir=deep/here"]) == 1
    assert list(tmp_path.iterdir()) == []
    job.fail[0] = KeyboardInterrupt()
    assert main(["train", "run.dir=deep/here"]) == 1
    assert "--resume" not in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["run.dir=here"], ["-m", "seed=0,1", "run.dir=here"]])
def test_an_interrupted_run_says_how_to_go_on(argv, job, tmp_path, capsys):
    job.fail[0] = KeyboardInterrupt()
    assert main(["train", *argv]) == 1
    assert len(job.calls) == 1
    folder = job.calls[0].config.run.dir
    assert capsys.readouterr().err.endswith(f"interrupted. Continue with `fedprofile train --resume {folder}`\n")

    job.fail.clear()
    assert main(["train", "--resume", folder]) == 0
    assert (job.calls[1].resume, job.calls[1].config) == (folder, None)


def test_sigterm_ends_a_run_as_an_interrupt_does(job, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("fedprofile.cli.progress.watch", lambda **_: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["train", "run.dir=here"]) == 1
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("more", [["seed=1"], ["-m"], ["--cfg", "job"]])
def test_resume_takes_nothing_else(more, job, capsys):
    assert main(["train", "--resume", "here", *more]) == 2
    assert "no overrides" in capsys.readouterr().err


def test_resume_wants_a_run_folder(job, tmp_path, capsys):
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    assert job.calls == []


def test_cfg_prints_and_stops(job, tmp_path, capsys):
    assert main(["train", "--cfg", "job", "seed=5", "federation.members=4"]) == 0
    assert "seed: 5\n" in capsys.readouterr().out
    assert main(["train", "--cfg", "hydra"]) == 0
    assert "sweep:" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert job.calls == []
