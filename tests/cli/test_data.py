"""`fedprofile data`: exit codes, JSON, help with an example, nothing heavy before a verb runs."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedprofile.cli.data import add_parser
from fedprofile.errors import DataError, UsageError


def call(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="fedprofile")
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *words])
    return args.run(args)


def test_init_check_describe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(tmp_path / "mine")
    assert call("init", root, "--parties", "bank,shop,hospital-1") == 0
    assert f"fedprofile data check {root}" in capsys.readouterr().out
    assert call("check", root) == 0
    assert "bank 600, shop 480, hospital-1 480 customers; tasks tier, invest" in capsys.readouterr().out
    assert call("describe", root) == 0
    assert "hospital-1" in capsys.readouterr().out
    assert call("describe", root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["overlap"]["shop"]["customers"] == 480
    with pytest.raises(UsageError, match="not an empty folder"):
        call("init", root)


def test_check_of_a_bad_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    assert call("init", str(root), "--parties", "bank,shop", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parties"] == ["bank", "shop"]
    assert call("check", str(root), "--json") == 0
    assert "two parties" in json.loads(capsys.readouterr().out)["warnings"][0]
    text = (root / "shop.csv").read_text()
    (root / "shop.csv").write_text(text + "EXAMPLE-X,inf,1,2,A\n")
    with pytest.raises(DataError) as caught:
        call("check", str(root))
    assert caught.value.exit_code == 1
    assert call("check", str(root), "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["file"], said["column"], said["count"]) == (False, "shop.csv", "amount", 1)


def test_describe_of_an_unknown_name() -> None:
    with pytest.raises(UsageError, match="neither a folder nor a registered source"):
        call("describe", "nowhere-at-all")


@pytest.mark.parametrize("verb", ["init", "check", "describe"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call(verb, "--help")
    assert caught.value.code == 0
    assert f"  fedprofile data {verb} " in capsys.readouterr().out


def test_the_parser_is_light() -> None:
    code = "import sys, fedprofile.cli.data; print({'polars', 'numpy', 'yaml'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
