"""Sources are found by name through entry points; an own source needs only an installed package."""

import importlib
import sys
from pathlib import Path

import pytest

from fedprofile.data.sources import open_source, source_names
from fedprofile.errors import ConfigError

PLUGIN = """\
from fedprofile.data.example import example

def toy(root):
    return example(("bank", "shop", root))

def broken(root):
    return 7
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An installed package, as importlib.metadata sees one, with two sources of its own."""
    (tmp_path / "toy_source.py").write_text(PLUGIN)
    info = tmp_path / "toy_source-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-source\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[fedprofile.sources]\ntoy-bank = toy_source:toy\nbroken = toy_source:broken\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("toy_source", None)


@pytest.mark.usefixtures("plugin")
def test_an_own_source() -> None:
    assert {"toy-bank", "broken"} <= set(source_names())
    assert list(open_source("toy-bank", "tax").tables) == ["bank", "shop", "tax"]
    with pytest.raises(ConfigError, match="gave no Federation"):
        open_source("broken", None)
    with pytest.raises(ConfigError, match=r"data\.source.*'toy-bnak'.*Did you mean 'toy-bank'"):
        open_source("toy-bnak", None)


def test_the_house_sources_are_declared() -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["fedprofile.sources"].strip().splitlines()
    for line in lines:
        module, _, function = line.partition("=")[2].strip().partition(":")
        assert callable(getattr(importlib.import_module(module), function))
    assert len(lines) >= 3
