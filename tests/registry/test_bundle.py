"""Bundles: what was written is what is scored, and nothing else opens."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedprofile.errors import DataError, UsageError
from fedprofile.models import tabular_net
from fedprofile.models.bank import BankData, fit_bank
from fedprofile.models.fusion import FusedModel, fit_fusion
from fedprofile.registry.bundle import open_bundle, write_bundle
from fedprofile.registry.files import MANIFEST, read_sealed, write_sealed
from fedprofile.registry.seal import SIGNATURE
from fedprofile.secagg.identity import Identity
from fedprofile.types import Table, Task, canonical

TASKS = (Task("tier", "ordinal", 3), Task("need", "binary", 2))
META = {"roles": ["tax", "shop"], "id": "customer", "encoders": {"tax-1": "ab" * 32}}
SIGNER = Identity.from_seed(bytes(32))
N = 300


def _data() -> tuple[BankData, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, theirs = rng.normal(size=(2, N))
    city = rng.choice(["1", "2", None], N)
    labels = {"tier": np.digitize(x + theirs, [-0.7, 0.7]).astype(np.int64), "need": (theirs > 0).astype(np.int64)}
    known = rng.integers(0, 2, (N, 2)).astype(float)
    sums = np.where((known != 0).any(1, keepdims=True), theirs[:, None] + rng.normal(size=(N, 3)), 0)
    table = Table(np.array([f"c{i}" for i in range(N)]), {"city": city, "age": x}, frozenset({"city"}))
    at = np.arange(N)
    return BankData(table, labels, at < 180, (at >= 180) & (at < 240)), sums, known


@pytest.fixture(scope="module")
def model() -> Iterator[FusedModel]:
    data, sums, known = _data()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabular_net, "STEPS", 10)
        yield fit_fusion(data, fit_bank(data, TASKS, 0), sums, known, TASKS, 0)


@pytest.fixture(scope="module")
def written(model: FusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "one"
    write_bundle(folder, model, META, {"trunk.hidden.weight": np.ones((1, 2, 3), np.float32)}, SIGNER)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def _frame(sums: np.ndarray, known: np.ndarray) -> dict[str, list[object]]:
    table = _data()[0].table
    names = ("score.tier.0", "score.tier.1", "score.need.0", "known.tax", "known.shop")
    views = dict(zip(names, np.concatenate([sums, known], 1).T.tolist(), strict=True))
    return {"city": table.columns["city"].tolist(), "age": table.columns["age"].tolist(), **views}


def test_an_opened_bundle_scores_identically(model: FusedModel, written: Path) -> None:
    data, sums, known = _data()
    bundle = open_bundle(written)
    for given in ((), (sums, known)):
        expected, found = model.predict(data.table, *given), bundle.score(data.table, *given)
        assert all(np.array_equal(expected[t], found[t]) for t in expected)
    assert bundle.frame_columns == ("age", "city", *list(_frame(sums, known))[2:])
    assert bundle.shared["trunk.hidden.weight"].shape == (1, 2, 3)
    assert bundle.meta == META
    assert {p.name for p in written.iterdir()} == {
        "weights.safetensors",
        "bundle.json",
        "manifest.json",
        "manifest.sig",
    }


def test_data_frame_columns_score_like_the_table(written: Path) -> None:
    data, sums, known = _data()
    bundle, frame = open_bundle(written), _frame(sums, known)
    expected = bundle.score(data.table, sums, known)
    frame["city"] = [None if c is None else float(c) for c in frame["city"]]  # as a CSV reader with gaps makes it
    frame["other"] = ["ignored"] * N
    assert all(np.array_equal(expected[t], p) for t, p in bundle.score_columns(frame).items())
    alone = bundle.score_columns({"age": frame["age"], "city": frame["city"]})
    assert all(np.array_equal(p, bundle.score(data.table)[t]) for t, p in alone.items())


def test_missing_values_and_unseen_categories_are_scored(written: Path) -> None:
    data, sums, known = _data()
    bundle, frame = open_bundle(written), _frame(sums, known)
    frame["city"][:5] = ["new", "", float("nan"), None, "NA"]
    frame["age"][:3] = [None, "", float("nan")]
    frame["score.tier.1"][7] = None
    frame["known.tax"][8], frame["known.shop"][8] = None, None
    found, alone = bundle.score_columns(frame), bundle.score(data.table)
    for task, p in found.items():
        assert np.isfinite(p).all()
        assert np.array_equal(p[7:9], alone[task][7:9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("age"), "column 'age': the column is missing"),
        (lambda f: f.pop("known.tax"), "column 'known.tax': the column is missing"),
        (
            lambda f: f["age"].__setitem__(0, "secret"),
            "column 'age': non-numeric text in a numeric column \\(1 rows\\)",
        ),
        (lambda f: f["age"].__setitem__(0, float("inf")), "column 'age': infinite numbers \\(1 rows\\)"),
        (lambda f: f["age"].pop(), "different lengths"),
    ],
)
def test_bad_columns_are_named_without_a_value(written: Path, change, message: str) -> None:
    frame = _frame(*_data()[1:])
    change(frame)
    with pytest.raises(DataError, match=message) as caught:
        open_bundle(written).score_columns(frame)
    assert "secret" not in str(caught.value)


def _refuses_changes(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change one byte ``count`` times, a quarter in each file, and see nothing parsed, trusted or not."""
    from fedprofile.registry import bundle

    rng = np.random.default_rng(0)
    files = sorted(folder.iterdir())
    original = {f: f.read_bytes() for f in files}
    parsed: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "load", lambda data: parsed.append(data) or {})
        for i in range(count):
            file = files[i % len(files)]
            data = bytearray(original[file])
            data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
            file.write_bytes(data)
            with pytest.raises(DataError, match=r"manifest|trusted"):
                open_bundle(folder, None if i % 2 else frozenset({SIGNER.sign_pk}))
            file.write_bytes(original[file])
    assert not parsed
    open_bundle(folder)


def test_four_hundred_single_byte_changes_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuses_changes(copy, 400, monkeypatch)


@pytest.mark.nightly
def test_ten_thousand_single_byte_changes_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuses_changes(copy, 10_000, monkeypatch)


def test_the_key_that_signed_is_told_and_can_be_asked_for(copy: Path) -> None:
    unpinned, pinned = open_bundle(copy).seal, open_bundle(copy, frozenset({SIGNER.sign_pk})).seal
    assert (unpinned.key, unpinned.pinned) == (SIGNER.sign_pk.hex(), False)
    assert pinned == replace(unpinned, pinned=True)
    assert unpinned.manifest == hashlib.sha256((copy / MANIFEST).read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"a key that is not trusted here"):
        open_bundle(copy, frozenset({Identity.from_seed(bytes(31) + b"1").sign_pk}))
    with pytest.raises(DataError, match=r"not trusted"):
        open_bundle(copy, frozenset())


def test_files_and_signatures_of_another_bundle_are_refused(model: FusedModel, copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_bundle(other, model, META | {"id": "another"}, {}, SIGNER)
    for name in ("weights.safetensors", "bundle.json", "manifest.json", "manifest.sig"):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes((other / name).read_bytes())
        with pytest.raises(DataError, match=r"manifest"):
            open_bundle(copy)
        (copy / name).write_bytes(kept)
    # a thief can sign again, with his own key only
    thief = Identity.from_seed(bytes(31) + b"2")
    files = {f: (copy / f).read_bytes() for f in ("weights.safetensors", "bundle.json")}
    write_sealed(tmp_path / "stolen", files, thief)
    assert open_bundle(tmp_path / "stolen").seal.key == thief.sign_pk.hex()
    with pytest.raises(DataError, match=r"not trusted"):
        open_bundle(tmp_path / "stolen", frozenset({SIGNER.sign_pk}))


def test_a_signature_that_was_spelled_otherwise_is_refused(copy: Path) -> None:
    body = json.loads((copy / SIGNATURE).read_bytes())
    for other in (json.dumps(body), json.dumps({**body, "more": 1}), json.dumps([body]), "null", "[" * 3000):
        (copy / SIGNATURE).write_bytes(other.encode())
        with pytest.raises(DataError, match=r"manifest.sig"):
            read_sealed(copy)


def test_a_signature_of_this_key_for_something_else_does_not_count(copy: Path) -> None:
    hashed = hashlib.sha256((copy / MANIFEST).read_bytes()).digest()
    body = json.loads((copy / SIGNATURE).read_bytes())
    (copy / SIGNATURE).write_bytes(canonical({**body, "signature": SIGNER.sign("Roster", hashed).hex()}))
    with pytest.raises(DataError, match=r"the signature does not fit"):
        read_sealed(copy)


def test_equal_files_are_signed_with_equal_bytes(model: FusedModel, copy: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again", model, META, {"trunk.hidden.weight": np.ones((1, 2, 3), np.float32)}, SIGNER)
    assert all((tmp_path / "again" / f.name).read_bytes() == f.read_bytes() for f in copy.iterdir())


def test_thresholds_of_the_bundle_decide(model: FusedModel, tmp_path: Path) -> None:
    meta = META | {"thresholds": {"need": [0.1, 0.9], "tier": [1 / 3] * 3}}
    write_bundle(tmp_path / "strict", model, meta, {}, SIGNER)
    bundle, p = open_bundle(tmp_path / "strict"), np.array([[0.45, 0.55], [0.05, 0.95]])
    assert bundle.decide(TASKS[1], p).tolist() == [0, 1]
    tier = np.random.default_rng(0).dirichlet(np.ones(3), 500)
    assert (bundle.decide(TASKS[0], tier) == tier.argmax(1)).all()


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "manifest.json", "manifest.sig"])
def test_missing_and_linked_files_are_refused(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: the file is missing"):
        open_bundle(copy)
    (copy / name).symlink_to(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: not a regular file"):
        open_bundle(copy)


def test_additional_files_and_folders_are_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "model.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"model.pkl: the file does not belong"):
        open_bundle(copy)
    (copy / "model.pkl").unlink()
    (copy / "more").mkdir()
    with pytest.raises(DataError, match=r"more: the file does not belong"):
        open_bundle(copy)
    with pytest.raises(DataError, match=r"no bundle is here"):
        open_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../bundle.json", "/etc/hostname", "a/../bundle.json"])
def test_a_manifest_that_names_paths_outside_is_refused(copy: Path, name: str) -> None:
    manifest = json.loads((copy / MANIFEST).read_bytes())
    manifest["files"][name] = manifest["files"].pop("bundle.json")
    (copy / MANIFEST).write_bytes(canonical(manifest))
    with pytest.raises(DataError, match=r"manifest"):
        open_bundle(copy)


def test_another_schema_version_is_refused_by_name(model: FusedModel, copy: Path, tmp_path: Path) -> None:
    files = {f.name: f.read_bytes() for f in copy.iterdir() if f.name not in (MANIFEST, SIGNATURE)}
    body = json.loads(files["bundle.json"])
    write_sealed(tmp_path / "later", files | {"bundle.json": canonical(body | {"schema_version": 99})}, SIGNER)
    with pytest.raises(DataError, match=r"schema_version 99"):
        open_bundle(tmp_path / "later")
    write_sealed(tmp_path / "other", files | {"bundle.json": b"[1]"}, SIGNER)
    with pytest.raises(DataError, match=r"not a bundle of this version"):
        open_bundle(tmp_path / "other")


def test_a_folder_in_use_is_refused_and_a_failure_leaves_nothing(
    model: FusedModel, written: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"not empty"):
        write_bundle(written, model, META, {}, SIGNER)
    with pytest.raises(ValueError, match=r"roles"):
        write_bundle(tmp_path / "b", model, {"roles": ["tax"]}, {}, SIGNER)
    with pytest.raises(TypeError):
        write_bundle(tmp_path / "b", model, META | {"x": object()}, {}, SIGNER)
    assert not list(tmp_path.iterdir())


def test_no_pickle_and_no_customer_is_inside(written: Path) -> None:
    assert json.loads((written / "bundle.json").read_bytes())["schema_version"] == 1
    header = (written / "weights.safetensors").read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    text = (written / "bundle.json").read_text()
    assert not any(f'"c{i}"' in text for i in range(60, N))
