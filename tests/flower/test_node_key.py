"""A node's key for Flower: private, of the format and curve that SuperLink takes, never made twice by accident."""

from __future__ import annotations

import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, uses_nist_ec_curve

from fedprofile.errors import DeploymentError
from fedprofile.flower.node_key import load_node_key, load_public, make_node_key, public_pem


def test_a_key_is_private_and_as_flower_wants_it(tmp_path):
    line = make_node_key(tmp_path / "bank")
    assert stat.S_IMODE((tmp_path / "bank").stat().st_mode) == 0o600
    key = serialization.load_ssh_private_key((tmp_path / "bank").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp384r1"
    assert uses_nist_ec_curve(key.public_key())
    assert (tmp_path / "bank.pub").read_bytes() == line + b"\n"
    assert line.startswith(b"ecdsa-sha2-nistp384 ")
    assert public_pem(load_public(line)) == public_key_to_bytes(load_node_key(tmp_path / "bank").public_key())
    assert load_public(public_pem(load_public(line))) == load_public(line)


def test_a_passphrase_is_needed_where_one_was_set(tmp_path):
    make_node_key(tmp_path / "bank", b"correct horse")
    assert load_node_key(tmp_path / "bank", b"correct horse")
    for wrong in (None, b"battery"):
        with pytest.raises(DeploymentError, match="passphrase"):
            load_node_key(tmp_path / "bank", wrong)


def test_a_key_is_not_made_again(tmp_path):
    make_node_key(tmp_path / "bank")
    before = (tmp_path / "bank").read_bytes()
    with pytest.raises(DeploymentError, match="exists already"):
        make_node_key(tmp_path / "bank")
    assert (tmp_path / "bank").read_bytes() == before


@pytest.mark.parametrize(
    "data", [b"", b"ssh-rsa AAAA", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_key_is_refused(tmp_path, data):
    with pytest.raises(DeploymentError):
        load_public(data)
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(DeploymentError):
        load_node_key(tmp_path / "key")
