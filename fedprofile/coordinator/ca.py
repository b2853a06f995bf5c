"""The federation's own certificate authority: who the nodes believe to be their coordinator.

::

    FOLDER/ca.key      EC P-384, PKCS 8, 0600; signs server certificates and nothing else
    FOLDER/ca.crt      what every node is given; after ``rotate`` the new certificate, then the old one; in force is
                       the one that belongs to ca.key, so that a rotation that was cut short has not happened
    FOLDER/server.key  of the SuperLink and the gate, 0600
    FOLDER/server.crt  with the subject alternative names that nodes may dial (RFC 6125: the common name is not read)

Nodes have no certificates: Flower knows them by their registered public keys. Certificates follow RFC 5280.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedprofile.errors import DeploymentError
from fedprofile.files import replace_private

_PUBLIC = 0o644
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
CA_DAYS, SERVER_DAYS = 3650, 365
_LEEWAY = timedelta(minutes=5)
"""A certificate is valid this long before it was made: the nodes' clocks are not the coordinator's."""


@dataclass(frozen=True)
class Credentials:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def expires(self) -> datetime:
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


class Authority:
    """A CA in a folder, and the one server certificate that it keeps there."""

    def __init__(self, folder: Path) -> None:
        """Raises DeploymentError for a folder without a CA."""
        self.folder = Path(folder)
        if not self.key.exists():
            raise DeploymentError(f"{self.folder} holds no certificate authority", "Make one first.")

    @staticmethod
    def create(folder: Path, federation: str, names: Iterable[str] = (), now: datetime | None = None) -> Authority:
        """A new CA with a first server certificate for LOCAL_NAMES and ``names``. Never replaces one."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / "ca.key").exists():
            raise DeploymentError(f"{folder} holds a certificate authority already", "Rotate it instead.")
        made = make_ca(federation, now)
        _put_server(folder, issue_server(made, names, now))
        replace_private(folder / "ca.crt", made.certificate, _PUBLIC)
        replace_private(folder / "ca.key", made.key)  # last: without it, nothing was made and ``create`` begins again
        return Authority(folder)

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def server_certificate(self) -> Path:
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.folder / "server.key"

    def fingerprint(self) -> str:
        """SHA-256 of the CA certificate in force, hexadecimal: what both sides read out loud."""
        return self._in_force().fingerprint(hashes.SHA256()).hex()

    def expires(self) -> dict[str, datetime]:
        """When "ca" and "server" end."""
        found = {"ca": self._in_force(), "server": _read(self.server_certificate)[0]}
        return {name: certificate.not_valid_after_utc for name, certificate in found.items()}

    def names(self) -> tuple[str, ...]:
        """The subject alternative names of the server certificate."""
        found = _read(self.server_certificate)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(str(name.value) for name in found.value)

    def renew(self, names: Iterable[str] | None = None, now: datetime | None = None) -> None:
        """A new server key and certificate, for ``names`` or those of the last one. Takes effect at the next start."""
        wanted = self.names() if names is None else names
        ca = Credentials(_pem(self._in_force()), self.key.read_bytes())
        _put_server(self.folder, issue_server(ca, wanted, now))

    def rotate(self, now: datetime | None = None) -> None:
        """A new CA and server certificate; ``ca.crt`` holds both CAs until ``retire``.

        Nodes trust the new server once they hold the new ``ca.crt``; give it to them before the server restarts.
        Raises DeploymentError while the last one is not retired: the running server may still be its.
        """
        if len(_read(self.certificate)) > 1:
            raise DeploymentError("the last rotation is not over", "Retire the old CA first, once no node needs it.")
        old = self._in_force()
        organisation = old.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
        made = make_ca(str(organisation), now)
        replace_private(self.certificate, made.certificate + _pem(old), _PUBLIC)
        replace_private(self.key, made.key)
        self.renew(now=now)

    def retire(self) -> None:
        """Trust the CA in force alone. Raises DeploymentError where the server's certificate is not of that one."""
        ca = self._in_force()
        try:
            _read(self.server_certificate)[0].verify_directly_issued_by(ca)
        except (ValueError, InvalidSignature):
            raise DeploymentError(f"{self.server_certificate} is of another CA", "Renew it first.") from None
        replace_private(self.certificate, _pem(ca), _PUBLIC)

    def _in_force(self) -> x509.Certificate:
        public = _public(serialization.load_pem_private_key(self.key.read_bytes(), None).public_key())
        for certificate in _read(self.certificate):
            if _public(certificate.public_key()) == public:
                return certificate
        raise DeploymentError(f"{self.key} is not of {self.certificate}", "Restore the two together.")


def make_ca(federation: str, now: datetime | None = None, days: int = CA_DAYS) -> Credentials:
    """A self-signed CA certificate whose subject names the federation."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation),
            x509.NameAttribute(NameOID.COMMON_NAME, "fedprofile CA"),
        ]
    )
    builder = (
        _builder(subject, subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return _signed(builder, key, key)


def issue_server(
    ca: Credentials, names: Iterable[str], now: datetime | None = None, days: int = SERVER_DAYS
) -> Credentials:
    """A server certificate for LOCAL_NAMES and ``names`` (host names or IP addresses).

    Raises DeploymentError for a name that is neither.
    """
    wanted = tuple(dict.fromkeys((*LOCAL_NAMES, *names)))
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    ca_key = serialization.load_pem_private_key(ca.key, None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise DeploymentError("the CA's key is not an elliptic curve key", "Make a new certificate authority.")
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedprofile coordinator")])
    builder = (
        _builder(subject, issuer.subject, key, now, days)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in wanted]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
    )
    return _signed(builder, key, ca_key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime | None, days: int
) -> x509.CertificateBuilder:
    start = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _LEEWAY)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> Credentials:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Credentials(builder.sign(signer, hashes.SHA384()).public_bytes(serialization.Encoding.PEM), pem)


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name or not all(c.isascii() and (c.isalnum() or c in "-.") for c in name):
        raise DeploymentError(f"{name!r} is neither a host name nor an IP address", "Name what the nodes will dial.")
    return x509.DNSName(name)


def _put_server(folder: Path, server: Credentials) -> None:
    replace_private(folder / "server.key", server.key)
    replace_private(folder / "server.crt", server.certificate, _PUBLIC)


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise DeploymentError(f"{path} holds no certificate", "Restore it, or renew.") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
