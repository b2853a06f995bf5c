"""From `fedprofile train` to a promoted champion, typed: six commands after the people were registered once."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml

from fedprofile.cli.main import main
from fedprofile.data.example import example
from fedprofile.data.writing import write_folder
from fedprofile.mlflow_io.store import default_uri, open_client
from fedprofile.models import bank, tabular_net
from fedprofile.models.layout import start_hash
from fedprofile.registry.bundle import open_bundle
from fedprofile.registry.home import load

PEOPLE = {"wang": "validator", "zhao": "approver", "chen": "operator", "sun": "auditor"}
TINY = "learning.steps=1 model.hidden=8 model.profile=4 privacy.min_release=20"
TRAIN = "train experiment=quick tracking=mlflow data=folder data.root=data run.dir=mine"
TO_CHAMPION = (
    "registry gate 1 --home mine/nodes/bank --promotion bars.yaml --as wang --key wang.key",
    "registry approve 1 --as wang --key wang.key",
    "registry approve 1 --as zhao --key zhao.key",
    "registry promote 1 --as chen --key chen.key",
)
AGAIN = "registry retrain data.root=data run.dir=next --promotion bars.yaml"


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Runs a command line in an empty directory; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path / "outputs"))

    def run(line: str) -> tuple[int, str, str]:
        code = main(line.split())
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def done(typed, line: str) -> str:
    code, out, err = typed(line)
    assert code == 0, f"{line}: {err}"
    return out


def staffed(typed, trainer: str) -> None:
    """What is typed once: keys on each person's own machine, and the root's word for them."""
    done(typed, "registry init --root root.key")
    done(typed, f"registry people add li {trainer} --role trainer --root root.key")
    for who, role in PEOPLE.items():
        public = json.loads(done(typed, f"registry person new --id {who} --out {who}.key --json"))["key"]
        done(typed, f"registry people add {who} {public} --role {role} --root root.key")


def easy_bars(file: Path) -> None:
    """One step of training clears no real bar: these ask that everything was measured that can be."""
    from importlib.resources import files

    bars = yaml.safe_load((files("fedprofile.configs") / "promotion" / "default.yaml").read_text())
    for gate in set(bars["gates"]) - {"label_epsilon", "secure_profile"}:
        bar = bars["gates"][gate]
        bar |= {"max": 1e6} if "max" in bar else {"min": -1e6}
    file.write_text(yaml.safe_dump(bars | {"draws": 20}))


@pytest.fixture
def judged(typed, tmp_path, monkeypatch):
    """A version of one step that has passed its gates and been approved by two people; its registry."""
    monkeypatch.setattr(tabular_net, "STEPS", 3)
    for rate in ("ALONE_LR", "FOLD_LR"):
        monkeypatch.setattr(bank, rate, 0.9)
    write_folder(example(("bank", "shop", "tax")), tmp_path / "data")
    easy_bars(tmp_path / "bars.yaml")

    done(typed, f"{TRAIN} {TINY}")
    staffed(typed, done(typed, "bundle key mine/nodes/bank").strip())
    for line in TO_CHAMPION[:-1]:
        done(typed, line)
    return load(tmp_path / "outputs" / "registry")


def test_from_train_to_champion_in_five_commands(judged, typed, tmp_path):
    registry, before = judged, judged.state()

    # an auditor, and each person outside their own role, changes nothing
    me = "--as sun --key sun.key"
    for line in (
        f"gate 1 --home mine/nodes/bank --promotion bars.yaml {me}", f"approve 1 {me}", f"promote 1 {me}",
        f"rollback 1 --reason x {me}", f"retire 1 --reason x {me}", f"shadow 1 {me}", f"sync {me}",
        "promote 1 --as wang --key wang.key", "promote 1 --as chen --key wang.key", "promote 1 --as sun --key chen.key",
        "people revoke wang --root chen.key", "people add eve " + "5" * 64 + " --role approver --root sun.key",
    ):  # fmt: skip
        assert typed(f"registry {line}")[0] == 2, line
    assert registry.state() == before

    assert "is champion" in done(typed, TO_CHAMPION[-1])
    state = registry.state()
    assert state.release(state.champion).version == "1"
    client = open_client(default_uri(tmp_path / "outputs"))
    assert str(client.get_model_version_by_alias("fedprofile", "champion").version) == "1"

    # whoever can read the folder reads everything
    assert "champion version 1" in done(typed, "registry status")
    assert json.loads(done(typed, "registry status --json"))["mlflow"] == []
    assert done(typed, "registry history").count("\n") == state.head.seq + 1
    assert done(typed, "registry history").endswith("champion version 1: served fused\n")
    assert "the same bundle" in done(typed, "registry diff 1 mine/bundle")
    assert "sun           auditor" in done(typed, "registry people list")
    done(typed, "registry card 1 --out card.html")
    page = (tmp_path / "card.html").read_text()
    assert "SR 26-2" in page
    assert "wang" in page
    assert "<script" not in page
    assert "## Approvals" in done(typed, "registry card 1")

    # the world moves, and MLflow shows it; who may not judge cannot retrain
    code, out, err = typed("registry watch --table data/bank.csv.gz")
    assert (code, "MLflow: version 1 is tagged steady" in out) == (0, True), err
    bank_table = pl.read_csv(tmp_path / "data" / "bank.csv.gz")
    bank_table.with_columns(pl.col("balance_cny") * 50).write_csv(tmp_path / "rich.csv")
    assert typed("registry watch --table rich.csv")[0] == 3
    tags = client.get_model_version("fedprofile", "1").tags
    assert tags["fedprofile.watch"].startswith("retrain ")
    assert typed(f"{AGAIN} --as sun --key sun.key")[0] == 2
    # simulated keys are drawn from the data: of others, the challenger would bear another trainer's signature
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    with gzip.open(tmp_path / "other" / "bank.csv.gz", "wb") as file:
        pl.read_csv(tmp_path / "rich.csv").write_csv(file)
    code, _, err = typed(f"{AGAIN.replace('=data', '=other')} --as wang --key wang.key")
    assert (code, "federation.secrets=DIR" in err) == (2, True), err
    assert not (tmp_path / "next").exists()


@pytest.mark.nightly
def test_one_command_makes_a_judged_challenger_that_names_its_parent(judged, typed, tmp_path):
    done(typed, TO_CHAMPION[-1])
    registry, state = judged, judged.state()
    pl.read_csv(tmp_path / "data" / "bank.csv.gz").with_columns(pl.col("balance_cny") * 50).write_csv("rich.csv")
    assert typed("registry watch --table rich.csv --out found --as chen --key chen.key")[0] == 3
    because = "--because found/recommendation.json"
    assert "passed" in done(typed, f"{AGAIN} -q {because} --as wang --key wang.key")
    assert "passed, trained because chen recommended it" in done(typed, "registry history")
    after = registry.state()
    assert (after.champion, after.release(after.challenger).version) == (state.champion, "2")
    assert registry.shelf.meta(after.challenger)["parent"]["manifest"] == state.champion
    same = ("config", "config_sha256", "data")
    old, new = (registry.shelf.meta(m) for m in (after.champion, after.challenger))
    assert [old[name] for name in same] == [new[name] for name in same]
    assert new["start"]["hash"] == start_hash(open_bundle(registry.shelf.folder(after.champion)).shared).hex()
    client = open_client(default_uri(tmp_path / "outputs"))
    assert str(client.get_model_version_by_alias("fedprofile", "challenger").version) == "2"
    again = "bundle reproduce next/bundle data.root=data -q --out again"
    assert "new weights" not in typed(again)[2]
    assert "--start" in typed(again)[2]
    assert "reproduced: to the bit" in done(typed, f"{again} --start mine/bundle")


@pytest.fixture
def made(typed):
    staffed(typed, "8f" * 32)
    return typed


def test_keys_are_private_and_made_once(made, tmp_path):
    for name in ("root.key", "wang.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / name).stat().st_size == 32
    assert made("registry person new --id wang --out wang.key")[0] == 2
    assert made("registry init --root root.key --registry other")[0] == 2
    assert not (tmp_path / "other").exists()
    (tmp_path / "wang.key").chmod(0o644)
    code, _, err = made("registry promote 1 --as wang --key wang.key")
    assert (code, "others may read" in err) == (2, True)


MISTAKES = (
    ("promote 1 --as chen --key chen.key", "MLflow's database is not there"),
    ("retire 7 --reason x --as chen --key chen.key", "not one version of this log"),
    ("rollback --reason x --as chen --key chen.key", "no earlier champion"),
    ("approve data --as wang --key nothing.key", "nothing.key"),
    ("people add wang " + "7" * 64 + " --role approver --root root.key", "is or was in the file"),
    ("person new --id Root --out r.key", "nobody can be called"),
    ("init --root r.key --registry outputs/registry", "not empty"),
    ("init --root r.key --registry new --store mysql://u:SECRET@h/d", "--store names no store"),
    ("status --registry nowhere", "no registry is in"),
    ("card 1 --out card.pdf", "neither .md nor .html"),
)


def test_a_mistake_is_named_and_changes_nothing(made, tmp_path):
    registry = load(tmp_path / "outputs" / "registry")
    before = registry.state()
    for line, said in MISTAKES:
        code, _, err = made(f"registry {line}")
        assert code in (1, 2)
        assert said in err
        assert "SECRET" not in err
        assert not (tmp_path / "r.key").exists()
    assert registry.state() == before
