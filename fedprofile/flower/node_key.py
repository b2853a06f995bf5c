"""A node's key for Flower: EC P-384 in OpenSSH format, which SuperLink and the stock SuperNode read.

It says who dials; what a node signs in the protocol is signed by its Ed25519 identity instead.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedprofile.errors import DeploymentError

_SSH_HEAD = b"-----BEGIN OPENSSH"


def make_node_key(path: Path, passphrase: bytes | None = None) -> bytes:
    """Write ``path`` (0600) and ``path``.pub; returns the public key's line.

    Without a passphrase the file is in OpenSSH format; with one in encrypted PKCS 8, which a stock SuperNode cannot
    read. Raises DeploymentError where a key lies already: a registered key is not made again by accident.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    cipher: serialization.KeySerializationEncryption = serialization.NoEncryption()
    form = serialization.PrivateFormat.OpenSSH
    if passphrase is not None:
        form, cipher = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(passphrase)
    private = key.private_bytes(serialization.Encoding.PEM, form, cipher)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise DeploymentError(f"{path} exists already", "Name another file.") from None
    with os.fdopen(handle, "wb") as file:
        file.write(private)
    line = public_line(key.public_key())
    path.with_name(path.name + ".pub").write_bytes(line + b"\n")
    return line


def load_node_key(path: Path, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Raises DeploymentError for a file that is no such key, or a wrong passphrase."""
    try:
        data = path.read_bytes()
        ssh = data.startswith(_SSH_HEAD)
        key = serialization.load_ssh_private_key(data, None) if ssh else _from_pem(data, passphrase)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise DeploymentError(f"{path} is no key that this passphrase opens", "Check both.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeploymentError(f"{path} is no elliptic curve key", "Make a node key.")
    return key


def _from_pem(data: bytes, passphrase: bytes | None) -> object:
    return serialization.load_pem_private_key(data, passphrase)


def public_line(key: ec.EllipticCurvePublicKey) -> bytes:
    """One line: ecdsa-sha2-nistp384 and base64."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def load_public(line: bytes) -> ec.EllipticCurvePublicKey:
    """A public key from its OpenSSH line or PEM. Raises DeploymentError."""
    try:
        pem = line.startswith(b"-----BEGIN")
        key = serialization.load_pem_public_key(line) if pem else serialization.load_ssh_public_key(line.strip())
    except (ValueError, UnsupportedAlgorithm):
        raise DeploymentError("this is no public key", "Send the .pub file of the node key.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise DeploymentError("this is no elliptic curve key", "Send the .pub file of the node key.")
    return key


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """How Flower stores and compares public keys."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
