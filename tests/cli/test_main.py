"""The front door: exit codes, one line a mistake, and nothing heavy before a verb runs."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib.metadata import version

import pytest

from fedprofile.cli import main as front
from fedprofile.errors import DataError, UsageError

HEAVY = {"torch", "flwr", "mlflow", "hydra", "omegaconf", "polars", "numpy", "pandas", "sklearn", "lightgbm", "rich"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code", ["import fedprofile", "from fedprofile.cli.main import main; assert main(['--help']) == 0"]
)
def test_nothing_heavy_is_imported(code):
    done = python(f"{code}\nimport sys\nprint('heavy:', *{HEAVY!r} & set(sys.modules))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_help_answers_within_half_a_second():
    # processor time, since tests share their cores; the best of three
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python("from fedprofile.cli.main import main; main(['--help'])").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def leaves(parser):
    if not parser._subparsers:
        return [parser]
    return [leaf for inner in parser._subparsers._group_actions[0].choices.values() for leaf in leaves(inner)]


def test_every_verb_has_help_with_an_example_and_a_handler(capsys):
    verbs = front._parser()._subparsers._group_actions[0].choices
    expected = [
        "train",
        "score",
        "bundle",
        "data",
        "coordinator",
        "node",
        "consent",
        "audit",
        "registry",
        "doctor",
        "ui",
    ]
    assert list(verbs) == expected
    for verb, parser in verbs.items():
        assert front.main([verb, "--help"]) == 0
        assert f"fedprofile {verb}" in capsys.readouterr().out
        assert all(callable(leaf.get_default("run")) for leaf in leaves(parser)), verb


def test_version(capsys):
    assert front.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"fedprofile {version('fedprofile')}"


@pytest.mark.parametrize(
    "argv", [[], ["trian"], ["--bogus"], ["doctor", "extra"], ["train", "a=1", "--bogus"], ["ui", "--port", "x"]]
)
def test_a_misused_command_line_is_2(argv, capsys):
    assert front.main(argv) == 2
    assert "error:" in capsys.readouterr().err


def failing_with(monkeypatch, error: BaseException) -> None:
    def run(args):
        raise error

    monkeypatch.setattr("fedprofile.cli.doctor.run", run)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("no", "Do this."), 2, "error: no. Do this."),
        (DataError("a.csv", "is empty", "Fill it."), 1, "error: a.csv: is empty. Fill it."),
        (KeyboardInterrupt(), 1, "error: interrupted"),
        (ValueError("balance 1234.56 of row 7"), 1, "error: unexpected ValueError. Run again with --debug"),
    ],
)
def test_an_error_is_one_line_and_its_code(error, code, line, monkeypatch, capsys):
    failing_with(monkeypatch, error)
    assert front.main(["doctor"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1
    assert "1234" not in said.err


@pytest.mark.parametrize("argv", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback(argv, monkeypatch, capsys):
    failing_with(monkeypatch, ValueError("boom"))
    assert front.main(argv) == 1
    assert "Traceback" in capsys.readouterr().err
