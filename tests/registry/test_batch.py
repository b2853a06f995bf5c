"""Scoring a file: files in, files out, and mistakes named before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from desk import PLAN, WORD
from polars.testing import assert_frame_equal

import fedprofile
from fedprofile.errors import DataError, UsageError
from fedprofile.models import tabular_net
from fedprofile.models.bank import BankData, fit_bank
from fedprofile.models.fusion import fit_fusion
from fedprofile.registry.batch import score_file
from fedprofile.registry.bundle import open_bundle, write_bundle
from fedprofile.secagg.identity import Identity
from fedprofile.types import Table, Task

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))
N = 240


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=N)
    table = Table(np.arange(N).astype(str), {"age": x, "city": rng.choice(["a", "b"], N).astype(object)}, {"city"})
    labels = {"tier": np.digitize(x, [-0.7, 0.7]).astype(np.int64), "need": (x > 0).astype(np.int64)}
    data = BankData(table, labels, np.arange(N) < 180, np.arange(N) >= 180)
    sums, known = rng.normal(size=(N, 3)) + x[:, None], np.ones((N, 2))
    folder = tmp_path_factory.mktemp("bundles") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabular_net, "STEPS", 10)
        model = fit_fusion(data, fit_bank(data, TASKS, 0), sums, known, TASKS, 0, parts=("linear",))
        meta = {"roles": ["tax", "shop"], "id": "customer", "plan": PLAN, "encoders": {"tax": WORD, "shop": WORD}}
        write_bundle(folder, model, meta, {}, Identity.from_seed(bytes(32)))
        yield folder


def _frame(n: int = 6) -> pl.DataFrame:
    city = ["a", "b", None, "new", "a", "b"]
    return pl.DataFrame(
        {"customer": [f"k{i}" for i in range(n)], "city": city, "age": [0.1, None, 2.0, -1.0, 0.0, 1.5]}
    )


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("out", ["out.csv", "out.parquet"])
def test_files_score_as_the_bundle_does(bundle: Path, tmp_path: Path, suffix: str, out: str) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / out
    _write(_frame(), source)
    done = fedprofile.score(bundle, source, str(target))
    signed = {"key": Identity.from_seed(bytes(32)).sign_pk.hex(), "pinned": False}
    assert done == {"rows": 6, "out": str(target), "tasks": ["tier", "need"], "scores": "bank alone"} | signed
    found = pl.read_csv(target) if out.endswith("csv") else pl.read_parquet(target)
    assert found.columns == ["customer", "tier.p0", "tier.p1", "tier.p2", "tier", "need.p", "need"]
    frame = _frame()
    expected = open_bundle(bundle).score_columns({"age": frame["age"].to_list(), "city": frame["city"].to_list()})
    assert np.allclose(found.select("^tier.p.$").to_numpy(), expected["tier"], atol=1e-12)
    assert np.allclose(found["need.p"].to_numpy(), expected["need"][:, 1], atol=1e-12)
    assert found["tier"].to_list() == expected["tier"].argmax(1).tolist()


def _write(frame: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".gz":
        import gzip

        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        frame.write_csv(path)


def test_summed_scores_are_used_where_they_are_given(bundle: Path, tmp_path: Path) -> None:
    views = {c: [1.0] * 6 for c in open_bundle(bundle).view_columns}
    _write(_frame().with_columns(**{c: pl.Series(v) for c, v in views.items()}), tmp_path / "in.csv")
    assert score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")["scores"] == "fused"


def test_summed_scores_that_cannot_be_of_its_encoders_are_left_out(bundle: Path, tmp_path: Path) -> None:
    source, opened = tmp_path / "in.csv", open_bundle(bundle)
    _write(_frame(), source)
    score_file(bundle, source, tmp_path / "alone.csv")
    _write(_frame().with_columns(**{c: pl.lit(1.0) for c in opened.view_columns}), source)
    meta = dict(opened.meta) | {"encoders": {"tax": WORD}, "roles": list(opened.roles)}
    for name, encoders in (("half", {"tax": WORD, "shop": {"digest": None}}), ("old", {})):
        write_bundle(tmp_path / name, opened.model, meta | {"encoders": encoders}, {}, Identity.from_seed(bytes(32)))
    for folder, finished, why in (
        (tmp_path / "half", None, "its encoders are not acknowledged by shop"),
        (tmp_path / "old", None, "its encoders are not acknowledged by any partner"),
        (bundle, ["cd" * 32], "its run is not one of the last 3 of this home, and partners keep no older encoders"),
    ):
        done = score_file(folder, source, tmp_path / "out.csv", finished=finished, force=True)
        assert (done["scores"], done["why_alone"]) == ("bank alone", why)
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    done = score_file(bundle, source, tmp_path / "out.csv", finished=[PLAN], force=True)
    assert (done["scores"], "why_alone" in done) == ("fused", False)


class _Some:
    """Consent of some customers by use."""

    def __init__(self, **uses: list[str]) -> None:
        self.uses = uses

    def allowed(self, subjects: np.ndarray, use: str, at: object) -> np.ndarray:
        return np.isin(subjects, self.uses[use])


def test_only_whom_the_permit_allows_is_scored_and_with_partners_only_whom_it_allows_that(
    bundle: Path, tmp_path: Path
) -> None:
    source, views = tmp_path / "in.csv", open_bundle(bundle).view_columns
    _write(_frame().with_columns(**{c: pl.lit(1.0) for c in views}), source)
    score_file(bundle, source, tmp_path / "all.csv")
    permit = _Some(own=["K0", "K2", "K5"], score=["K2", "K4"])
    done = score_file(bundle, source, tmp_path / "out.csv", permit=permit)
    assert (done["rows"], done["withheld"], done["scores"]) == (3, 3, "fused")
    found, fused = pl.read_csv(tmp_path / "out.csv"), pl.read_csv(tmp_path / "all.csv")
    _write(_frame(), source)
    score_file(bundle, source, tmp_path / "alone.csv")
    alone = pl.read_csv(tmp_path / "alone.csv")
    assert found["customer"].to_list() == ["k0", "k2", "k5"]
    assert_frame_equal(found, pl.concat([alone[0], fused[2], alone[5]]), abs_tol=1e-9)
    assert (fused["tier.p0"] != alone["tier.p0"]).any()
    with pytest.raises(DataError, match="nobody in it may be scored"):
        score_file(bundle, source, tmp_path / "none.csv", permit=_Some(own=[], score=[]))
    _write(_frame().drop("customer"), source)
    with pytest.raises(DataError, match=r"column 'customer': ids are missing"):
        score_file(bundle, source, tmp_path / "none.csv", permit=permit)
    assert not (tmp_path / "none.csv").exists()


def test_mistakes_are_named_and_leave_nothing(bundle: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with pytest.raises(UsageError, match=r"IN 'in.csv' is missing"):
        score_file(bundle, source, target)
    for column in ("age", "city"):
        _write(_frame().drop(column), source)
        with pytest.raises(DataError, match=rf"in.csv, column '{column}': the column is missing"):
            score_file(bundle, source, target)
    _write(_frame().with_columns(pl.lit("secret").alias("age")), source)
    with pytest.raises(DataError, match=r"column 'age': non-numeric text") as caught:
        score_file(bundle, source, target)
    assert "secret" not in str(caught.value)
    _write(_frame().with_columns(pl.lit(1.0).alias("known.tax")), source)
    with pytest.raises(DataError, match=r"column 'score.tier.0': the column is missing"):
        score_file(bundle, source, target)
    with pytest.raises(UsageError, match=r"unknown format"):
        score_file(bundle, source, tmp_path / "out.txt")
    with pytest.raises(DataError, match=r"no bundle is here"):
        score_file(tmp_path / "no", source, target)
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


def test_an_existing_output_needs_force(bundle: Path, tmp_path: Path) -> None:
    _write(_frame(), tmp_path / "in.csv")
    (tmp_path / "out.csv").write_text("precious")
    with pytest.raises(UsageError, match=r"exists"):
        score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "precious"
    score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv", force=True)
    assert "tier.p0" in (tmp_path / "out.csv").read_text()
