"""The bundle that names no code: the same bytes wherever it is made, and nothing in it but one table."""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile

from flwr.cli.build import build_fab_from_disk

from fedprofile.flower.app_bundle import build_fab, fab_hash, pyproject, write_app


def test_a_bundle_holds_no_code():
    with zipfile.ZipFile(io.BytesIO(build_fab())) as bundle:
        names = bundle.namelist()
        assert "pyproject.toml" in names
        assert not [n for n in names if n.endswith((".py", ".so", ".pth"))]
        app = tomllib.loads(bundle.read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    assert app["components"] == {
        "serverapp": "fedprofile.flower.server_app:app",
        "clientapp": "fedprofile.flower.client_app:app",
    }
    assert app["config"] == {"job": ""}


def test_its_hash_is_the_same_in_every_folder(tmp_path):
    for name in ("here", "elsewhere"):
        fab = build_fab_from_disk(write_app(tmp_path / name))
        assert hashlib.sha256(fab).hexdigest() == fab_hash()
    assert fab_hash() == fab_hash()


def test_another_release_has_another_hash(monkeypatch):
    mine = fab_hash()
    monkeypatch.setattr("fedprofile.flower.app_bundle.version", lambda _: "9.9.9")
    assert b'"9.9.9"' in pyproject()
    assert fab_hash() != mine
