from __future__ import annotations

import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from fedprofile.acknowledging import Acknowledgement
from fedprofile.errors import DataError
from fedprofile.mlflow_io import model
from fedprofile.mlflow_io.tracking import TrackingRun
from fedprofile.node.encoders import keep_acknowledged
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.registry.bundle import Bundle, open_bundle, write_bundle
from fedprofile.secagg.identity import Identity
from fedprofile.types import Table, Task

VIEWS = ["score.tier.0", "score.tier.1", "score.invest.0", "known.tax", "known.medical"]
OUTPUTS = ["tier.p0", "tier.p1", "tier.p2", "tier", "invest.p", "invest"]


@pytest.fixture
def opened(bundle: Path) -> Bundle:
    return open_bundle(bundle)


@pytest.fixture(scope="module")
def logged(empty_store: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with one run that logged and registered the bundle: (uri, run id)."""
    home = tmp_path_factory.mktemp("registry")
    (home / "mlflow.db").write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{home}/mlflow.db"
    with TrackingRun.open(uri, "study", "job", {}) as run:
        run.log_round(0, {"loss": 1.0})
        run._log_metrics({"tier.federated.auc": 0.9}, 1)
        assert run.log_model(bundle, register=True) == "1"
    return uri, run.run_id


@pytest.fixture
def scorer(logged: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(logged[0])
    yield mlflow.pyfunc.load_model("models:/fedprofile@challenger")
    mlflow.set_tracking_uri(None)


def _frame(table: Table) -> pd.DataFrame:
    return pd.DataFrame(dict(table.columns))


def test_probability_columns() -> None:
    assert model.probability_columns(Task("tier", "ordinal", 3)) == ["tier.p0", "tier.p1", "tier.p2"]
    assert model.probability_columns(Task("tier", "ordinal", 2)) == ["tier.p0", "tier.p1"]
    assert model.probability_columns(Task("invest", "binary", 2)) == ["invest.p"]


def test_requirements_are_exact_versions_that_an_index_has() -> None:
    pins = dict(line.split("==") for line in model.requirements())
    assert set(pins) == {"fedprofile", *model.SCORING_NEEDS}
    assert not any("+" in v for v in pins.values())


def test_the_challenger_scores_as_the_bundle_does(scorer: Any, opened: Bundle, bank_table: Table) -> None:
    frame = _frame(bank_table)
    alone = scorer.predict(frame)
    assert list(alone) == OUTPUTS
    want = opened.score(bank_table)
    np.testing.assert_array_equal(alone[["tier.p0", "tier.p1", "tier.p2"]], want["tier"])
    np.testing.assert_array_equal(alone["invest.p"], want["invest"][:, 1])
    np.testing.assert_array_equal(alone["tier"], want["tier"].argmax(1))
    sums, known = np.linspace(-3, 3, 900).reshape(300, 3), np.ones((300, 2))
    sums[:5] = np.nan
    views = pd.DataFrame(np.concatenate([sums, known], 1), columns=VIEWS)
    fused = scorer.predict(pd.concat([frame, views], axis=1))
    np.testing.assert_array_equal(fused["invest.p"], opened.score(bank_table, sums, known)["invest"][:, 1])
    np.testing.assert_array_equal(fused["invest.p"][:5], alone["invest.p"][:5])
    assert (fused["invest.p"][5:] != alone["invest.p"][5:]).any()


def test_gaps_new_levels_whole_numbers_and_row_labels_are_welcome(scorer: Any) -> None:
    frame = pd.DataFrame(
        {"job": ["clerk", None, "astronaut"], "income": [1, 2, 3], "age": [None, 30.5, None]}, index=["a", "b", "c"]
    )
    found = scorer.predict(frame)
    assert list(found.index) == ["a", "b", "c"]
    assert np.isfinite(found.to_numpy(float)).all()
    for empty in (None, np.nan, pd.NA):
        one = pd.DataFrame({"income": [empty], "age": [empty], "job": [empty]})
        assert np.isfinite(scorer.predict(one).to_numpy(float)).all()


def test_a_frame_that_does_not_fit_is_refused_by_name_and_without_a_value(scorer: Any, bank_table: Table) -> None:
    frame = _frame(bank_table)
    for wrong, column in [
        (frame.drop(columns="age"), "age"),
        (frame.assign(income="wealthy"), "income"),
        (frame.assign(income=np.inf), "income"),
        (frame.assign(**dict.fromkeys(VIEWS[:3], 0.25)), "known.tax"),
    ]:
        with pytest.raises(DataError) as caught:
            scorer.predict(wrong)
        assert caught.value.column == column
        assert not any(word in str(caught.value) for word in ("wealthy", "0.25", "clerk"))
        assert caught.value.__cause__ is None


def test_signature_example_and_metadata_name_the_columns(scorer: Any, opened: Bundle) -> None:
    assert scorer.metadata.signature.inputs.input_names() == list(opened.frame_columns)
    assert scorer.metadata.signature.outputs.input_names() == OUTPUTS
    assert scorer.metadata.metadata["columns"] == {
        "numeric": ["income", "age"],
        "categorical": ["job"],
        "optional": VIEWS,
    }
    assert scorer.metadata.metadata["served"] == "served fused"
    example = scorer.input_example
    assert list(example) == list(opened.frame_columns)
    assert list(scorer.predict(example)) == OUTPUTS


def _fused_frame(table: Table) -> pd.DataFrame:
    return _frame(table).assign(**dict.fromkeys(VIEWS, 1.0))


def test_a_version_that_partners_do_not_keep_is_served_bank_alone_and_says_so(
    logged: tuple[str, str], opened: Bundle, bank_table: Table, uri: str, tmp_path: Path, caplog: Any
) -> None:
    home = NodeHome.create(tmp_path / "bank", NodeConfig("bank", "bank", "bank", "own", "ledger"))
    meta = dict(opened.meta) | {"encoders": opened.meta["encoders"] | {"tax": {"digest": None, "signature": None}}}
    write_bundle(tmp_path / "quiet", opened.model, meta, {}, Identity.from_seed(bytes(32)))
    with TrackingRun.open(uri, "study", "quiet", {}) as run:
        run.log_model(tmp_path / "quiet", register=True)
    alone, frame = opened.score(bank_table)["invest"][:, 1], _fused_frame(bank_table)

    def said(store: str, **settings: str) -> tuple[bool, list[str]]:
        caplog.clear()
        mlflow.set_tracking_uri(store)
        try:
            model = mlflow.pyfunc.load_model("models:/fedprofile/1", model_config=settings)
        finally:
            mlflow.set_tracking_uri(None)
        told = [r.getMessage() for r in caplog.records if "served bank alone" in r.getMessage()]
        return np.array_equal(model.predict(frame)["invest.p"], alone), told

    is_alone, (why,) = said(uri)
    assert (is_alone, "not acknowledged by tax" in why) == (True, True)
    is_alone, (why,) = said(logged[0], home=str(home.path))
    assert (is_alone, "one of the last 3" in why) == (True, True)
    keep_acknowledged(home, bytes.fromhex("ab" * 32), {"tax": Acknowledgement(b"\1" * 32, b"\2" * 64)})
    assert said(logged[0], home=str(home.path)) == said(logged[0]) == (False, [])


def test_the_version_belongs_to_its_run_and_a_second_takes_the_alias(logged: tuple[str, str], bundle: Path) -> None:
    uri, run_id = logged
    client = MlflowClient(uri)
    assert client.get_model_version_by_alias("fedprofile", "challenger").run_id == run_id
    with TrackingRun.open(uri, "study", "sweep child", {}) as child:
        assert child.log_model(bundle, register=False) is None
    assert [v.version for v in client.search_model_versions("name='fedprofile'")] in (["1"], [1])
    with TrackingRun.open(uri, "study", "second", {}) as second:
        assert second.log_model(bundle, register=True) == "2"
    assert client.get_model_version_by_alias("fedprofile", "challenger").run_id == second.run_id
    client.set_registered_model_alias("fedprofile", "challenger", "1")


def test_the_model_lies_with_its_run_and_leaves_the_rounds_alone(logged: tuple[str, str]) -> None:
    uri, run_id = logged
    run = MlflowClient(uri).get_run(run_id)
    (found,) = MlflowClient(uri).search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    assert found.status == "READY"
    assert {m.key: m.value for m in found.metrics} == {"tier.federated.auc": 0.9}
    assert found.artifact_location.startswith(str(Path(uri.removeprefix("sqlite:///")).parent))
    history = MlflowClient(uri).get_metric_history(run_id, "round/loss")
    assert {(m.step, m.value) for m in history} == {(0, 1.0)}
    assert len(history) == 1


def test_no_pickle_lies_in_the_artefact(logged: tuple[str, str]) -> None:
    files = [p for p in (Path(logged[0].removeprefix("sqlite:///")).parent / "mlartifacts").rglob("*") if p.is_file()]
    assert {"scorer_model.py", "weights.safetensors", "bundle.json", "MLmodel"} <= {p.name for p in files}
    for path in files:
        assert path.suffix not in {".pkl", ".pickle", ".joblib", ".pt", ".pth"}
        assert not _is_pickle(path.read_bytes()), path.name


def test_scoring_works_with_nothing_but_its_requirements(bundle: Path) -> None:
    absent = ("mlflow", "pandas", "flwr", "hydra", "ray", "polars", "pyarrow", "sklearn", "yaml")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent!r}))
from fedprofile.registry.bundle import open_bundle
bundle = open_bundle({str(bundle)!r})
scores = bundle.score_columns({{name: [1.0] for name in bundle.frame_columns}})
print(scores['tier'].shape, scores['invest'].shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(1, 3) (1, 2)", done.stderr


def test_a_damaged_bundle_is_refused(bundle: Path, uri: str, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "bundle.json").write_bytes(b"{}")
    with pytest.raises(DataError), TrackingRun.open(uri, "study", "job", {}) as run:
        run.log_model(copy, register=True)
    assert MlflowClient(uri).get_run(run.run_id).info.status == "FAILED"
    assert not MlflowClient(uri).search_registered_models()


def _is_pickle(data: bytes) -> bool:
    if b"cloudpickle" in data and not data.isascii():
        return True
    try:
        return data[:1] in (b"\x80", b"(", b"]", b"}", b"c") and bool(list(pickletools.genops(data)))
    except ValueError:
        return False


def test_a_load_can_name_the_keys_that_it_trusts(logged: tuple[str, str], opened: Bundle, caplog: Any) -> None:
    mlflow.set_tracking_uri(logged[0])
    try:
        load = mlflow.pyfunc.load_model
        assert load("models:/fedprofile/1", model_config={"trust": [opened.seal.key]})
        assert not [r for r in caplog.records if "signed by the key inside" in r.message]
        load("models:/fedprofile/1")
        assert [r for r in caplog.records if "signed by the key inside" in r.message]
        with pytest.raises(DataError, match=r"not trusted"):
            load("models:/fedprofile/1", model_config={"trust": ["ab" * 32]})
    finally:
        mlflow.set_tracking_uri(None)
