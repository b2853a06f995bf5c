"""The contract with a real SuperLink: every name of Flower that a resident node needs, and what each answer means.

A new flwr that moves one of those names, or gives it another meaning, fails here first.
"""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedprofile.coordinator.ca import Credentials, issue_server, make_ca
from fedprofile.errors import DeploymentError
from fedprofile.flower.fleet import FleetClient, Patience, Stopped
from fedprofile.flower.node_key import load_node_key, make_node_key


@pytest.fixture
def client_of(deployment, tmp_path):
    """``client_of(name)``: a registered node's connection through the gate, closed at the end."""
    made = []

    def make(name: str, register: bool = True, address: str = "", **words) -> FleetClient:
        line = make_node_key(tmp_path / name)
        if register:
            deployment.link.register(name, line)
        trust, key = deployment.link.authority.certificate, load_node_key(tmp_path / name)
        made.append(FleetClient(address or deployment.link.gate_address, trust, key, **words))
        return made[-1]

    yield make
    for client in made:
        client.close()


def status_of(deployment, name: str) -> str:
    return next(n.status for n in deployment.link.nodes() if n.name == name)


class TestJoining:
    def test_a_registered_node_comes_and_goes(self, deployment, client_of):
        client = client_of("comes")
        assert status_of(deployment, "comes") == "registered"
        node = client.join(None, 10.0)
        assert node == deployment.link.registered()["comes"].node_id
        assert status_of(deployment, "comes") == "online"
        (seen,) = [n.last_seen for n in deployment.link.nodes() if n.name == "comes"]
        assert abs(datetime.now(UTC) - seen) < timedelta(minutes=2)
        assert client.heartbeat(10.0)
        assert client.pull() is None
        client.leave()
        assert status_of(deployment, "comes") == "offline"

    def test_after_a_crash_a_node_goes_on_at_once(self, client_of):
        """SuperLink takes it for online until its heartbeats have been missing; it does not have to wait for that."""
        client = client_of("crashed")
        node = client.join(None, 10.0)
        with pytest.raises(DeploymentError, match="online elsewhere"):
            client.join(None, 10.0)
        assert client.join(node, 10.0) == node
        client.leave()

    def test_an_unregistered_key_is_refused(self, client_of):
        with pytest.raises(DeploymentError, match="does not know this node's key"):
            client_of("stranger", register=False).join(None, 10.0)

    def test_an_id_does_not_help_without_its_key(self, deployment, client_of):
        other = client_of("victim").join(None, 10.0)
        with pytest.raises(DeploymentError, match="unregistered"):
            client_of("thief", register=False).join(other, 10.0)

    def test_a_key_that_was_unregistered_never_comes_back(self, deployment, client_of):
        client = client_of("revoked")
        client.join(None, 10.0)
        deployment.link.unregister("revoked")
        assert "revoked" not in deployment.link.registered()
        with pytest.raises(httpx.HTTPStatusError):
            client.heartbeat(10.0)
        with pytest.raises(DeploymentError):
            client.join(1, 10.0)

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_wrong_clock_is_named(self, client_of, monkeypatch, hours):
        shifted = lambda: datetime.now(UTC) + timedelta(hours=hours)  # noqa: E731
        monkeypatch.setattr("flwr.supernode.node_auth_http_interceptor.now", shifted)
        with pytest.raises(DeploymentError, match="clock"):
            client_of(f"late{hours}").join(None, 10.0)

    def test_a_signature_of_another_key_does_not_pass(self, deployment, client_of):
        """The key that is claimed must be the key that signs."""
        client = client_of("honest")
        client._public_key = b"".join([client._public_key[:60], b"AAAA", client._public_key[64:]])
        with pytest.raises(DeploymentError):
            client.join(None, 10.0)


class TestRegistering:
    def test_a_key_belongs_to_one_party_and_a_party_has_one_key(self, deployment, tmp_path):
        link, line = deployment.link, make_node_key(tmp_path / "one")
        node = link.register("one", line)
        assert link.register("one", line) == node
        for party, key in (("two", line), ("one", make_node_key(tmp_path / "other"))):
            with pytest.raises(Exception, match="another"):
                link.register(party, key)

    def test_a_registration_that_a_crash_cut_is_finished(self, deployment, tmp_path):
        """SuperLink took the key, our own list was not written: the same key again is the same node."""
        link, line = deployment.link, make_node_key(tmp_path / "cut")
        node = link.register("cut", line)
        link._keep({p: r for p, r in link.registered().items() if p != "cut"})
        assert link.register("cut", line) == node


# -- certificates: no SuperLink needed, the handshake decides ------------------------------------------
class Handshaker:
    """A TLS server with one certificate (or none: plaintext) that answers every request with 404."""

    def __init__(self, folder: Path, made: Credentials | None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.context = None
        if made is not None:
            (folder / "c").write_bytes(made.certificate)
            (folder / "k").write_bytes(made.key)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(folder / "c", folder / "k")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self.listener.accept()
                if self.context is not None:
                    wire = self.context.wrap_socket(wire, server_side=True)
                wire.recv(65536)
                wire.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                wire.close()
            except ssl.SSLError:
                continue
            except OSError:
                return


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("another CA", "not made by the federation's CA"),
        ("self-signed", "not made by the federation's CA"),
        ("expired", "has expired"),
        ("not yet valid", "not valid yet"),
        ("another name", "names another host"),
        ("plaintext", "does not speak TLS"),
    ],
)
def test_a_bad_certificate_is_refused_and_named(tmp_path, case, said):
    ca, other, now = make_ca("Test"), make_ca("Test"), datetime.now(UTC)
    made = {
        "another CA": lambda: issue_server(other, []),
        "self-signed": lambda: other,
        "expired": lambda: issue_server(ca, [], now - timedelta(days=400)),
        "not yet valid": lambda: issue_server(ca, [], now + timedelta(days=2)),
        "another name": lambda: issue_server(ca, []),
        "plaintext": lambda: None,
    }[case]()
    server = Handshaker(tmp_path, made)
    (tmp_path / "ca.crt").write_bytes(ca.certificate)
    host = "127.0.0.2" if case == "another name" else "127.0.0.1"
    if case == "another name":
        server.listener.close()
        server.listener = socket.create_server(("127.0.0.2", 0))
        server.port = server.listener.getsockname()[1]
        threading.Thread(target=server._serve, daemon=True).start()
    client = FleetClient(f"{host}:{server.port}", tmp_path / "ca.crt", ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(DeploymentError, match=said) as refused:
        client.join(None, 10.0)
    assert refused.value.mend
    client.close()
    server.listener.close()


def test_a_file_without_certificates_is_refused(tmp_path):
    (tmp_path / "ca.crt").write_text("nothing")
    for file in ("ca.crt", "absent.crt"):
        with pytest.raises(DeploymentError, match="no certificates"):
            FleetClient("127.0.0.1:1", tmp_path / file, ec.generate_private_key(ec.SECP384R1()))


def test_a_node_waits_for_a_coordinator_that_is_away_and_can_be_stopped(deployment, tmp_path):
    stop, key = threading.Event(), ec.generate_private_key(ec.SECP384R1())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    trust = deployment.link.authority.certificate
    client = FleetClient(f"127.0.0.1:{port}", trust, key, stop, Patience(0.01, 0.02))
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        client.join(None, 10.0)
    assert client.trouble == "ConnectError"


def test_an_https_proxy_is_honoured(deployment, client_of, monkeypatch):
    """Behind a company's proxy a node makes one kind of connection: CONNECT to the coordinator's gate."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pipe(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)

    def proxy() -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            head = wire.recv(65536)
            asked.append(head.split(b"\r\n")[0])
            host, _, port = head.split()[1].decode().rpartition(":")
            onward = socket.create_connection((host, int(port)))
            wire.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for ends in ((wire, onward), (onward, wire)):
                threading.Thread(target=pipe, args=ends, daemon=True).start()

    threading.Thread(target=proxy, daemon=True).start()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    client = client_of("proxied")
    client.join(None, 10.0)
    assert client.pull() is None
    assert asked == [f"CONNECT {deployment.link.gate_address} HTTP/1.1".encode()]
    client.leave()
    listener.close()
