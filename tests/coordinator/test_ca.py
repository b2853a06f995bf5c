"""The federation's CA: what it signs, what it leaves on disk, and how it is replaced."""

from __future__ import annotations

import ipaddress
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fedprofile.coordinator.ca import LOCAL_NAMES, Authority, Credentials, issue_server, make_ca
from fedprofile.errors import DeploymentError


def verified(trust: bytes, server: bytes, name: str, at: datetime | None = None) -> bool:
    """As a node's TLS library does, by RFC 5280 and the name that was dialled."""
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    store = Store(x509.load_pem_x509_certificates(trust))
    verifier = PolicyBuilder().store(store).time(at or datetime.now(UTC)).build_server_verifier(subject)
    try:
        verifier.verify(x509.load_pem_x509_certificate(server), [])
    except VerificationError:
        return False
    return True


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority.create(tmp_path / "tls", "Banks and shops", ["coordinator.example", "10.1.2.3"])


def test_every_name_that_may_be_dialled_is_on_the_certificate_and_no_other(authority):
    trust, server = authority.certificate.read_bytes(), authority.server_certificate.read_bytes()
    for name in (*LOCAL_NAMES, "coordinator.example", "10.1.2.3"):
        assert verified(trust, server, name), name
    for name in ("example", "other.example", "10.1.2.4"):
        assert not verified(trust, server, name), name


def test_another_ca_of_the_same_name_is_not_believed(authority):
    other = make_ca("Banks and shops")
    assert not verified(other.certificate, authority.server_certificate.read_bytes(), "localhost")


def test_certificates_end(authority):
    trust, server = authority.certificate.read_bytes(), authority.server_certificate.read_bytes()
    ends = authority.expires()
    assert ends["server"] < ends["ca"]
    assert verified(trust, server, "localhost", ends["server"] - timedelta(days=1))
    assert not verified(trust, server, "localhost", ends["server"] + timedelta(seconds=1))
    assert not verified(trust, server, "localhost", datetime.now(UTC) - timedelta(hours=1))


def test_a_server_certificate_signs_nothing(authority):
    """It is no CA: what its key signs is not believed."""
    made = Credentials(authority.server_certificate.read_bytes(), authority.server_key.read_bytes())
    forged = issue_server(made, ["localhost"])
    trust = authority.certificate.read_bytes()
    chain = [x509.load_pem_x509_certificate(made.certificate)]
    verifier = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(trust)))
    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("localhost")).verify(
            x509.load_pem_x509_certificate(forged.certificate), chain
        )


def test_private_keys_are_private(authority):
    for key in (authority.key, authority.server_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert serialization.load_pem_private_key(key.read_bytes(), None).curve.name == "secp384r1"
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
    assert "PRIVATE" not in repr(Credentials(b"", authority.key.read_bytes()))


def test_a_ca_is_never_replaced_by_accident(authority):
    before = authority.key.read_bytes()
    with pytest.raises(DeploymentError, match="Rotate"):
        Authority.create(authority.folder, "Banks and shops")
    assert authority.key.read_bytes() == before
    with pytest.raises(DeploymentError, match="no certificate authority"):
        Authority(authority.folder / "elsewhere")


def test_renewing_keeps_the_names_and_changes_the_key(authority):
    names, key = authority.names(), authority.server_key.read_bytes()
    authority.renew()
    assert authority.names() == names
    assert authority.server_key.read_bytes() != key
    authority.renew(["new.example"])
    assert authority.names() == (*LOCAL_NAMES, "new.example")


def test_a_rotation_loses_no_node(authority):
    """Who has the old and the new CA trusts the server before and after; the old one alone does not trust the new."""
    old, server, mark = (
        authority.certificate.read_bytes(),
        authority.server_certificate.read_bytes(),
        authority.fingerprint(),
    )
    authority.rotate()
    both, renewed = authority.certificate.read_bytes(), authority.server_certificate.read_bytes()
    assert verified(both, server, "localhost")
    assert verified(both, renewed, "coordinator.example")
    assert not verified(old, renewed, "localhost")
    assert authority.fingerprint() != mark
    authority.retire()
    alone = authority.certificate.read_bytes()
    assert verified(alone, renewed, "localhost")
    assert not verified(alone, server, "localhost")


def test_a_rotation_that_was_cut_short_has_not_happened(authority):
    old, mark = authority.certificate.read_bytes(), authority.fingerprint()
    authority.certificate.write_bytes(make_ca("Banks and shops").certificate + old)  # and no new key
    assert authority.fingerprint() == mark
    authority.renew()
    assert verified(old, authority.server_certificate.read_bytes(), "localhost")
    authority.retire()
    assert authority.certificate.read_bytes() == old


def test_a_ca_that_the_server_still_needs_is_not_dropped(authority):
    server = authority.server_certificate.read_bytes()
    authority.rotate()
    with pytest.raises(DeploymentError, match="Retire the old CA"):
        authority.rotate()
    authority.server_certificate.write_bytes(server)  # as a cut before the renewal leaves it
    with pytest.raises(DeploymentError, match="Renew it first"):
        authority.retire()
    authority.renew()
    authority.retire()
    authority.rotate()


def test_what_was_cut_short_while_it_was_made_is_made_again(authority):
    authority.key.unlink()
    again = Authority.create(authority.folder, "Banks and shops", ["other.example"])
    assert verified(again.certificate.read_bytes(), again.server_certificate.read_bytes(), "other.example")


def test_a_key_and_a_certificate_of_two_cas_are_named(authority):
    authority.key.write_bytes(make_ca("Banks and shops").key)
    with pytest.raises(DeploymentError, match="Restore the two together"):
        authority.renew()


@pytest.mark.parametrize("name", ["", "two words", "ümlaut.example", "a/b", "*"])
def test_a_name_that_is_none_is_refused(authority, name):
    with pytest.raises(DeploymentError, match="neither a host name nor an IP"):
        authority.renew([name])
