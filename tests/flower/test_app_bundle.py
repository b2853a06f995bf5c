"""The bundle that names no code: the same bytes wherever it is made, and nothing in it but one table."""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
from importlib.metadata import version

from flwr.app import Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk

from fedprofile.flower import client_app
from fedprofile.flower.app_bundle import build_fab, fab_hash, pyproject, write_app
from fedprofile.flower.fleet import REFUSED_APP
from fedprofile.flower.inprocess import InProcessGrid
from fedprofile.flower.records import pack, unpack
from fedprofile.messages import Envelope


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
    assert app["config"] == {"job": "", "release": version("fedprofile")}


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


def test_a_stock_supernode_refuses_another_releases_bundle(small, tmp_path):
    """It has no list of bundles: Flower hands the ClientApp the bundle's configuration, a resident node's gets none."""
    home = small(tmp_path, "align=simulated", shops=1).homes["tax"]
    InProcessGrid(None, {}).close()  # Flower makes messages only inside a run
    asked = Message(pack(Envelope("identify").encode()), 7, "query", ttl=60.0)
    asked.metadata.__dict__["_message_id"] = asked.object_id

    def answer(**config: str) -> Message:
        return client_app.app(message=asked, context=Context(1, 7, {"home": str(home)}, RecordDict(), config))

    for config in ({}, {"job": "", "release": version("fedprofile")}):
        assert Envelope.decode(unpack(answer(**config))).body == {"party": "tax"}
    for config in ({"job": ""}, {"job": "", "release": "0.0.9"}):
        error = answer(**config).error
        assert (error.code, error.reason) == (REFUSED_APP, "bundle_not_allowed")
    client_app.forget([home])
