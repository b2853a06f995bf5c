"""One whole run from a folder of tables to report, bundle and registry; and runs that were cut off go on to the same."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

import fedprofile
from fedprofile.cli.main import main
from fedprofile.data.example import example
from fedprofile.data.writing import write_folder
from fedprofile.errors import ConfigError, UsageError
from fedprofile.models import bank, registry, tabular_net
from fedprofile.node.home import NodeHome
from fedprofile.registry.bundle import open_bundle
from fedprofile.report import schema
from fedprofile.secagg.identity import Identity
from fedprofile.simulation.job import train
from fedprofile.types import MISSING_LABEL, Progress

SMALL = (
    "data=folder", "privacy.min_release=30", "learning.rounds=2", "learning.steps=3", "learning.trees=never",
    "model.hidden=16", "model.profile=8", "fusion.parts=[linear]", "baselines=none", "tracking=none",
    "baselines.bootstrap=20",
)  # fmt: skip
FILES = {"report.json", "report.html", "predictions.parquet", "bundle/manifest.json"}


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """The bank's own models in a fraction of their steps."""
    patch.setattr(tabular_net, "STEPS", 10)
    patch.setattr(bank, "ALONE_LR", 0.3)
    patch.setattr(bank, "FOLD_LR", 0.3)


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    make_quick(monkeypatch)
    monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A federation folder: a bank and two partners."""
    folder = tmp_path_factory.mktemp("data") / "three"
    write_folder(example(("bank", "shop", "tax")), folder)
    return folder


def words(root: Path, run_dir: Path, *more: str) -> list[str]:
    return [*SMALL, f"data.root={root}", f"run.dir={run_dir}", *more]


def model(run_dir: Path) -> dict[str, bytes]:
    """The shared model and everything that is predicted with it, as bytes."""
    shared = load_file(run_dir / "coordinator" / "checkpoint.safetensors")
    found = {name: value.tobytes() for name, value in shared.items()}
    found["sums"] = load_file(run_dir / "nodes/bank/run/score_sum.safetensors")["sums"].tobytes()
    found["weights"] = (run_dir / "bundle" / "weights.safetensors").read_bytes()
    found["predictions"] = pl.read_parquet(run_dir / "predictions.parquet").write_csv().encode()
    return found


class TestAWholeRun:
    @pytest.mark.parametrize("baselines", [pytest.param("none", marks=pytest.mark.nightly), "all"])
    def test_leaves_a_report_predictions_and_a_bundle_that_scores(self, root, tmp_path, capsys, baselines):
        result = fedprofile.train(words(root, tmp_path / "run", f"baselines={baselines}"))
        run_dir = tmp_path / "run"
        assert result.run_dir == run_dir
        assert all((run_dir / file).is_file() for file in FILES)
        pictures = list(run_dir.glob("*.png"))
        assert pictures
        assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
        report = json.loads((run_dir / "report.json").read_text())
        schema.validate(report)
        assert report == json.loads(json.dumps(result.report))
        self.check_report(report, baselines == "all")
        self.check_predictions(pl.read_parquet(run_dir / "predictions.parquet"), root, report)
        self.check_scoring(run_dir, root, tmp_path, capsys)

    def check_report(self, report, compared: bool) -> None:
        for task in report["tasks"].values():
            rows = {name: row is not None for name, row in task["models"].items()}
            simulated = dict.fromkeys(("members_alone", "pooled_network", "pooled_gbdt"), compared)
            assert rows == {"bank_alone": True, "federated": True} | simulated
            assert (task["gain_by_partner"] is not None) == compared
            if not compared:
                assert task["gap_closed"] is None
                assert task["reasons"]["pooled_gbdt"]
        assert report["privacy"]["label_eps_total"] == 4.0
        assert {o["kind"] for o in report["privacy"]["openings"]} == {"update", "stats", "score"}
        assert report["learning_curve"]["rounds"] == [1, 2]
        assert report["seconds"].keys() >= {"data", "setup", "rounds", "fusion", "report"}

    def check_predictions(self, table: pl.DataFrame, root: Path, report) -> None:
        assert len(table) == report["data"]["split"]["test"] < 600
        ids = set(pl.read_csv(root / "bank.csv.gz")["customer_id"].to_list())
        assert not ids & {str(v) for column in table.columns for v in table[column].to_list()}
        p = table.select([c for c in table.columns if c.startswith("tier.federated.p")]).to_numpy()
        assert np.allclose(p.sum(1), 1)

    def check_scoring(self, run_dir: Path, root: Path, tmp_path: Path, capsys) -> None:
        """The bank's own file scores through the command line; its order and ids are kept."""
        out = tmp_path / "scores.csv"
        capsys.readouterr()
        assert main(["score", str(run_dir / "bundle"), str(root / "bank.csv.gz"), str(out), "--json"]) == 0
        signer = Identity.from_seed(NodeHome(run_dir / "nodes" / "bank").derive("identity")).sign_pk.hex()
        assert json.loads(capsys.readouterr().out) == {
            "rows": 600, "out": str(out), "tasks": ["tier", "invest"], "scores": "bank alone",
            "key": signer, "pinned": False,
        }  # fmt: skip
        scores, customers = pl.read_csv(out), pl.read_csv(root / "bank.csv.gz")
        assert scores["customer_id"].to_list() == customers["customer_id"].to_list()
        assert set(open_bundle(run_dir / "bundle").roles) == {"shop", "tax"}

    @pytest.mark.parametrize(
        ("words_", "said"),
        [
            pytest.param(["secure=none"], "secure=none", marks=pytest.mark.nightly),
            (["learning.share=role", "federation.members=3", "federation.overlap=0.8"], None),
            (["learning.share=none", "privacy.label_eps=null", "learning.trees=always"], "label_eps=null"),
        ],
    )
    def test_other_ways_to_run(self, root, tmp_path, words_, said):
        report = train(words(root, tmp_path / "run", *words_)).report
        schema.validate(report)
        assert said is None or any(said in line for line in report["statements"])
        every = {"secure=none", "label_eps=null"} - {said}
        assert not [mark for mark in every if any(mark in line for line in report["statements"])]

    def test_a_bundle_says_enough_to_be_made_again(self, root, tmp_path, capsys):
        train(words(root, tmp_path / "run"))
        command = ["bundle", "reproduce", str(tmp_path / "run" / "bundle"), "-q", "--json"]
        assert main([*command, f"data.root={root}", "--out", str(tmp_path / "again")]) == 0
        done = json.loads(capsys.readouterr().out)
        assert done["identical"]
        assert done == json.loads((tmp_path / "again" / "reproduce.json").read_text())
        assert main([*command, f"data.root={root}", "--out", str(tmp_path / "again")]) == 2
        assert "exists and is not empty" in capsys.readouterr().err
        assert main([*command, f"data.root={root}", "seed=5", "--out", str(tmp_path / "other")]) == 1

    def test_labels_may_be_missing_for_some_customers(self, tmp_path):
        federation = example(("bank", "shop", "tax"))
        federation.labels.values["invest"][::3] = MISSING_LABEL
        federation.labels.values["tier"][1::5] = MISSING_LABEL
        write_folder(federation, tmp_path / "data")
        report = train(words(tmp_path / "data", tmp_path / "run")).report
        assert report["tasks"]["invest"]["test_customers"] < report["data"]["split"]["test"]
        assert 0 < report["tasks"]["tier"]["models"]["federated"]["auc"] <= 1


class TestTwoParties:
    @pytest.fixture
    def two(self, tmp_path) -> Path:
        write_folder(example(("bank", "shop")), tmp_path / "two")
        return tmp_path / "two"

    def test_are_refused_and_nothing_is_written(self, two, tmp_path):
        with pytest.raises(ConfigError, match=r"secure\.min_hidden.*two parties a sum hides nothing.*min_views=1"):
            train(words(two, tmp_path / "run"))
        assert not (tmp_path / "run").exists()

    def test_run_where_that_is_said_and_the_report_says_it_again(self, two, tmp_path):
        report = train(words(two, tmp_path / "run", "secure.min_hidden=1", "fusion.min_views=1")).report
        assert any("read one partner's scores" in line for line in report["statements"])
        assert min(o["hidden"] for o in report["privacy"]["openings"]) == 1


MEMBERS = ("federation.members=3",)


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        train(words(root, run_dir, *MEMBERS))
    return model(run_dir)


class TestInterrupted:
    STAGES = ("stats", ("rounds", 1), "scores", "report")

    @staticmethod
    def stop_at(stage):
        name, t = stage if isinstance(stage, tuple) else (stage, None)

        def observer(progress: Progress) -> None:
            if progress.stage == name and t in (None, progress.round):
                raise KeyboardInterrupt

        return observer

    @pytest.mark.parametrize(
        "stage",
        [pytest.param(s, marks=[pytest.mark.nightly] if s != "report" else []) for s in STAGES],
        ids=str,
    )
    def test_at_any_stage_goes_on_to_the_same_model(self, root, tmp_path, undisturbed, stage):
        run_dir = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train(words(root, run_dir, *MEMBERS), observer=self.stop_at(stage))
        assert not (run_dir / "report.json").exists()
        seen: list[Progress] = []
        report = train(resume=str(run_dir), observer=seen.append).report
        assert model(run_dir) == undisturbed
        assert report["learning_curve"]["rounds"] == [1, 2], "each round once"
        if stage == ("rounds", 1):
            assert [p.round for p in seen if p.stage == "rounds"] == [2]

    @pytest.mark.nightly
    def test_while_results_are_written(self, root, tmp_path, undisturbed, monkeypatch):
        """Between the bundle and the report, which is what makes a run finished."""
        run_dir = tmp_path / "run"
        with monkeypatch.context() as patch:
            patch.setattr("fedprofile.report.plots.write_plots", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                train(words(root, run_dir, *MEMBERS))
        train(resume=str(run_dir))
        assert model(run_dir) == undisturbed

    def test_by_a_kill_in_the_middle_of_a_round(self, root, tmp_path, undisturbed):
        """SIGKILL, no handler, no flush: what is on disk is enough."""
        run_dir = tmp_path / "run"
        code = (
            "import os, signal, sys\n"
            "from fedprofile.node.training import LocalTraining\n"
            "from fedprofile.simulation.job import train\n"
            "commit = LocalTraining._commit\n"
            "def die(self, t, pending):\n"
            "    commit(self, t, pending)\n"
            "    if t == 2 and self.home.config.party == 'shop-2': os.kill(os.getpid(), signal.SIGKILL)\n"
            "LocalTraining._commit = die\n"
            "train(sys.argv[1:])\n"
        )
        command = [sys.executable, "-c", code, *words(root, run_dir, *MEMBERS)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        killed = subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        train(resume=str(run_dir))
        assert model(run_dir) == undisturbed

    def test_resume_refuses_overrides_a_finished_run_and_what_is_no_run(self, root, tmp_path, capsys):
        run_dir = tmp_path / "run"
        assert main(["train", "-q", *words(root, run_dir)]) == 0
        assert main(["train", "--resume", str(run_dir), "seed=1"]) == 2
        assert "--resume takes no overrides" in capsys.readouterr().err
        before = {p: p.stat().st_mtime_ns for p in run_dir.rglob("*")}
        assert main(["train", "-q", "--resume", str(run_dir)]) == 2
        assert "is finished" in capsys.readouterr().err
        assert {p: p.stat().st_mtime_ns for p in run_dir.rglob("*")} == before
        assert main(["train", "-q", "--resume", str(tmp_path)]) == 2

    def test_a_folder_in_use_is_refused(self, root, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "mine.txt").write_text("mine")
        with pytest.raises(UsageError, match=r"exists and is not empty.*--resume"):
            train(words(root, tmp_path / "run"))
        assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]

    def test_two_at_once_are_refused_and_the_first_goes_on(self, root, tmp_path):
        run_dir, refused = tmp_path / "run", []

        def observer(progress: Progress) -> None:
            if progress.stage == "rounds" and not refused:
                with pytest.raises(UsageError, match="still going on"):
                    train(resume=str(run_dir))
                refused.append(progress.round)

        train(words(root, run_dir), observer=observer)
        assert refused
        assert (run_dir / "report.json").exists()

    def test_other_data_than_it_began_with_is_refused(self, tmp_path):
        folder, run_dir = tmp_path / "data", tmp_path / "run"
        write_folder(example(("bank", "shop", "tax")), folder, "csv")
        with pytest.raises(KeyboardInterrupt):
            train(words(folder, run_dir), observer=self.stop_at(("rounds", 1)))
        table = (folder / "shop.csv").read_text().splitlines(keepends=True)
        (folder / "shop.csv").write_text("".join(table[:-1]))
        with pytest.raises(UsageError, match="has changed since it began"):
            train(resume=str(run_dir))
        (folder / "shop.csv").write_text("".join(table))
        assert train(resume=str(run_dir)).report["learning_curve"]["rounds"] == [1, 2]

    def test_on_the_command_line(self, root, tmp_path, capsys, monkeypatch):
        """Ctrl-C says how to go on, and what it says works."""
        from fedprofile.cli import progress

        watch, run_dir = progress.watch, tmp_path / "run"
        monkeypatch.setattr(progress, "watch", lambda **_: nullcontext(self.stop_at(("rounds", 1))))
        assert main(["train", *words(root, run_dir)]) == 1
        said = capsys.readouterr().err
        assert "interrupted" in said
        command = said.split("`")[1].split()
        assert command[:3] == ["fedprofile", "train", "--resume"]
        monkeypatch.setattr(progress, "watch", watch)
        assert main([*command[1:], "-q"]) == 0
        assert (run_dir / "report.html").exists()


class TestTracking:
    def test_an_interrupted_run_is_killed_and_resumed_as_itself(self, root, tmp_path):
        from mlflow import MlflowClient

        uri, run_dir = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "run"
        more = ("tracking=mlflow", f"tracking.uri={uri}", "tracking.register=false", "learning.rounds=3")
        with pytest.raises(KeyboardInterrupt):
            train(words(root, run_dir, *more), observer=TestInterrupted.stop_at(("rounds", 2)))
        run_id = json.loads((run_dir / "tracking.json").read_text())["run_id"]
        client = MlflowClient(uri)
        assert client.get_run(run_id).info.status == "KILLED"
        before = {m.step: m for m in client.get_metric_history(run_id, "round/loss.tier")}
        assert sorted(before) == [1, 2]
        result = train(resume=str(run_dir))
        run = client.get_run(run_id)
        assert (run.info.status, result.report["run"]["mlflow_run_id"]) == ("FINISHED", run_id)
        after = client.get_metric_history(run_id, "round/loss.tier")
        assert sorted(m.step for m in after) == [1, 2, 3]
        assert all((m.value, m.timestamp) == (before[m.step].value, before[m.step].timestamp)
                   for m in after if m.step in before)  # fmt: skip
        assert len(client.search_runs([run.info.experiment_id])) == 1
        assert run.data.tags["config.sha256"] == result.report["run"]["config_sha256"]
        assert {a.path for a in client.list_artifacts(run_id, "report")} >= {"report/report.json", "report/report.html"}

    def test_a_resumed_run_keeps_its_store_though_the_home_is_another_by_now(self, root, tmp_path, monkeypatch):
        from mlflow import MlflowClient

        run_dir, more = tmp_path / "run", ("tracking=mlflow", "tracking.register=false")
        with pytest.raises(KeyboardInterrupt):
            train(words(root, run_dir, *more), observer=TestInterrupted.stop_at(("rounds", 1)))
        assert (run_dir / "tracking.json").stat().st_mode & 0o777 == 0o600
        kept = json.loads((run_dir / "tracking.json").read_text())
        monkeypatch.setenv("FEDPROFILE_HOME", str(tmp_path / "another"))
        assert train(resume=str(run_dir)).report["run"]["mlflow_run_id"] == kept["run_id"]
        assert MlflowClient(kept["uri"]).get_run(kept["run_id"]).info.status == "FINISHED"


class TestDivergence:
    @pytest.mark.parametrize(("decay", "steps", "layer"), [("1e30", 3, "loss"), ("1e42", 1, "encoder.first.weight")])
    def test_names_node_layer_and_mend(self, root, tmp_path, capsys, decay, steps, layer):
        """A decay so strong that numbers overflow, after a step or two: the run stops, and says where."""
        bad = (f"learning.weight_decay={decay}", f"learning.steps={steps}", "learning.lr=1", "secure.clip=1e3")
        assert main(["train", "-q", *words(root, tmp_path / "run", *bad)]) == 1
        said = capsys.readouterr().err
        assert f"training diverged at node 'bank', layer '{layer}', round 1. Lower learning.lr" in said
        assert "Traceback" not in said
        assert not (tmp_path / "run" / "report.json").exists()

    def test_a_rate_too_large_for_the_clip_is_refused_before_any_work(self, root, tmp_path):
        """A round's bound on a delta follows from the learning rate; above secure.clip no node would answer."""
        with pytest.raises(ConfigError, match=r"secure\.clip|learning\.lr"):
            train(words(root, tmp_path / "run", "learning.lr=1", "learning.steps=40"))
        assert not (tmp_path / "run").exists()


PLUGIN = """\
from fedprofile.data.example import example
from fedprofile.models.layout import EncoderSpec

def shop_only(root):
    return example(("bank", "kiosk", "tax"))

def shapes(width, shape):
    return {"only.weight": (shape.replicas, width, shape.profile),
            "only.bias": (shape.replicas, shape.ensemble, shape.profile)}

LINEAR = EncoderSpec(shapes, "own_parts_net:Linear")
"""
NET = """\
import torch
from torch import nn

class Linear(nn.Module):
    def __init__(self, width, shape):
        super().__init__()
        self.only = nn.Module()
        self.only.weight = nn.Parameter(torch.zeros(shape.replicas, width, shape.profile))
        self.only.bias = nn.Parameter(torch.zeros(shape.replicas, shape.ensemble, shape.profile))

    def forward(self, x, pool):
        return (torch.bmm(x, self.only.weight) + self.only.bias)[:, None]
"""


def test_own_source_and_encoder_by_name(tmp_path, monkeypatch):
    """The worked example: an installed package declares them as entry points, a config only says their names."""
    site = tmp_path / "site"
    info = site / "own_parts-1.dist-info"
    info.mkdir(parents=True)
    (site / "own_parts.py").write_text(PLUGIN)
    (site / "own_parts_net.py").write_text(NET)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-parts\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[fedprofile.sources]\nkiosk = own_parts:shop_only\n\n[fedprofile.encoders]\nlinear = own_parts:LINEAR\n"
    )
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    registry._choices.cache_clear()
    own = [w for w in SMALL if w != "data=folder"]
    names = ["data.source=kiosk", "data.members=3", "model.encoder=linear"]
    result = train([*own, *names, f"run.dir={tmp_path / 'run'}"])
    assert [p["role"] for p in result.report["data"]["parties"]] == ["bank", *["kiosk"] * 3, *["tax"] * 3]
    tensors = load_file(tmp_path / "run/coordinator/checkpoint.safetensors")
    assert {n for n in tensors if n.startswith("encoder/kiosk")} == {
        "encoder/kiosk/encoder.only.weight", "encoder/kiosk/encoder.only.bias",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"model\.encoder.*linar.*linear"):
        train([*own, *names[:2], "model.encoder=linar"])
    for module in ("own_parts", "own_parts_net"):
        sys.modules.pop(module, None)
    registry._choices.cache_clear()
