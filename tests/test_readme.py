"""The README's commands do what they say, typed in its order in an empty folder; trainings are cut to one short round."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fedprofile.cli.main import main
from fedprofile.models import bank, tabular_net

README = Path(__file__).parents[1] / "README.md"
ELSEWHERE = {
    "make": "make run and make test are typed in a fresh clone, not inside a test",
    "registry": "tests/cli/test_registry.py types them, with keys in place of KEY",
    "@champion": "tests/registry/test_shadowing.py scores with it",
    "reproduce": "tests/simulation/test_job.py makes a bundle again",
    "ui": "tests/mlflow_io/test_ui.py starts it",
    "federation=ray": "tests/flower/test_ray.py runs it",
}
SHORT = ["experiment=quick", "learning.steps=1", "fusion.parts=[linear]", "align=simulated"]


def commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines]


def test_every_command_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path / "outputs"))
    monkeypatch.setattr(tabular_net, "STEPS", 10)
    for rate in ("ALONE_LR", "FOLD_LR"):
        monkeypatch.setattr(bank, rate, 0.3)
    ran = 0
    for words in commands():
        if any(mark in words for mark in ELSEWHERE):
            continue
        assert words[0] == "fedprofile", words
        arguments = words[1:]
        if arguments[0] == "train" and "--resume" not in arguments:
            arguments += [word for word in SHORT if word.split("=")[0] not in {a.split("=")[0] for a in arguments}]
        expected = 2 if "--resume" in arguments else 0  # the README's run to resume is finished by then: refused
        assert main(arguments) == expected, words
        ran += 1
    assert ran >= 7
    assert (tmp_path / "scores.csv").exists()
