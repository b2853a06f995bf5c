"""``fedprofile bundle``: verified or not, in words, JSON and exit codes, without torch or MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedprofile.cli.main import main
from fedprofile.node.home import NodeConfig, NodeHome
from fedprofile.registry.files import BODY, WEIGHTS, write_sealed
from fedprofile.secagg.identity import Identity
from fedprofile.types import canonical


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome.create(tmp_path / "home", NodeConfig("bank", "bank", "bank", "own", "simulated"))


@pytest.fixture
def bundle(home: NodeHome, tmp_path: Path) -> Path:
    """What `verify` reads: it parses no tensor, so these need be none."""
    files = {WEIGHTS: b"tensors", BODY: canonical({"meta": {"run": {"id": "ab"}}})}
    write_sealed(tmp_path / "bundle", files, Identity.from_seed(home.derive("identity")))
    return tmp_path / "bundle"


def test_a_bundle_verifies_with_and_without_the_trainers_key(bundle: Path, home: NodeHome, tmp_path: Path, capsys):
    assert main(["bundle", "verify", str(bundle)]) == 0
    assert "the key inside it; --key FILE asks" in capsys.readouterr().out
    assert main(["bundle", "key", str(home.path)]) == 0
    key = capsys.readouterr().out
    (tmp_path / "bank.key").write_text(f"# the bank's\n\n{key}")
    assert main(["bundle", "verify", str(bundle), "--key", str(tmp_path / "bank.key"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["key"], facts["pinned"], facts["run"]) == (key.strip(), True, "ab")


def test_what_does_not_verify_is_one_line_and_1(bundle: Path, tmp_path: Path, capsys):
    (tmp_path / "other.key").write_text("ab" * 32)
    assert main(["bundle", "verify", str(bundle), "--key", str(tmp_path / "other.key")]) == 1
    assert "a key that is not trusted here" in capsys.readouterr().err
    (bundle / WEIGHTS).write_bytes(b"tensorz")
    assert main(["bundle", "verify", str(bundle)]) == 1
    assert capsys.readouterr().err.startswith("error: weights.safetensors: the content is not what")
    (bundle / "manifest.sig").unlink()
    assert main(["bundle", "verify", str(bundle)]) == 1
    assert "did not sign yet" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "# nobody\n", "ab\n", "ab" * 32 + "\nzz\n"])
def test_a_key_file_without_keys_is_used_wrongly(bundle: Path, tmp_path: Path, capsys, text: str):
    (tmp_path / "bad.key").write_text(text)
    assert main(["bundle", "verify", str(bundle), "--key", str(tmp_path / "bad.key")]) == 2
    assert "64 hex digits" in capsys.readouterr().err
    assert main(["bundle", "verify", str(bundle), "--key", str(tmp_path / "none.key")]) == 2


def test_verifying_imports_neither_torch_nor_mlflow(bundle: Path):
    code = f"""
import sys
from fedprofile.cli.main import main
assert main(["bundle", "verify", {str(bundle)!r}]) == 0
print(sorted({{"torch", "mlflow", "safetensors", "polars", "hydra", "flwr"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
