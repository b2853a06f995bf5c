"""From the partner's side: nothing of the coordinator can be reached but what a node needs.

Requests are written byte by byte, so that no client mends a path before it leaves.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time

import httpx
import pytest
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    StreamLogsRequest,
)
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from fedprofile.coordinator.ca import Authority
from fedprofile.errors import DeploymentError
from fedprofile.flower import gate
from fedprofile.flower.app_bundle import build_fab
from fedprofile.flower.control import Control
from fedprofile.flower.gate import FLEET_PATHS, MAX_BODY
from fedprofile.flower.superlink import free_port
from fedprofile.secagg.wire import MAX_MEMBERS

TRICKS = (
    "/v1/control/list-runs",
    "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs",
    "/v1/fleet/pull-messages/../../control/list-runs",
    "/v1/fleet/pull-messages%2f..%2f..%2fcontrol%2flist-runs",
    "/v1/fleet//pull-messages",
    "//v1/control/list-runs",
    "/v1/fleet/pull-messages/",
    "/v1/fleet/pull%2Dmessages",
    "/V1/FLEET/PULL-MESSAGES",
    "/v1/fleet/pull-messages?x=1",
    "/v1/fleet/pull-messages;x",
    "/v1/fleet/register-node",
    "/v1/fleet/unregister-node",
    "/v1/fleet/get-fab",
    "/v1/fleet",
    "/v1/runtime/acquire-task",
    "https://127.0.0.1/v1/control/list-runs",
    "*",
)


@pytest.fixture(scope="module")
def partner(deployment):
    """``partner(method, target, body, *headers)`` -> status, over TLS to the gate."""
    host, _, port = deployment.link.gate_address.rpartition(":")
    trust = ssl.create_default_context(cafile=str(deployment.link.authority.certificate))

    def ask(method: str, target: str, body: bytes = b"", *headers: str) -> int:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *headers]
        if not any(h.lower().startswith(("content-length", "transfer-encoding")) for h in headers):
            lines.append(f"Content-Length: {len(body)}")
        with (
            socket.create_connection((host, int(port)), 10) as raw,
            trust.wrap_socket(raw, server_hostname=host) as wire,
        ):
            wire.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            answer = b""
            while chunk := wire.recv(65536):
                answer += chunk
        return int(answer.split(b" ", 2)[1])

    return ask


@pytest.mark.parametrize("target", TRICKS)
def test_no_other_path_leads_anywhere(partner, target):
    for method in ("POST", "GET", "OPTIONS", "BREW"):
        assert partner(method, target, b"", f"Content-Type: {PROTOBUF_MEDIA_TYPE}") in (404, 400), method


@pytest.mark.parametrize("target", ["/", "/health", "/docs", "/redoc", "/openapi.json", "/v1/fleet/pull-messages"])
def test_nothing_can_be_read(partner, target):
    assert partner("GET", target) == 404
    assert partner("HEAD", target) == 404


CONTROL = {
    "start-run": StartRunRequest(),
    "list-runs": ListRunsRequest(),
    "stop-run": StopRunRequest(run_id=1),
    "stream-logs": StreamLogsRequest(run_id=1),
    "register-node": RegisterNodeRequest(public_key=b"x", name="intruder"),
    "list-nodes": ListNodesRequest(),
}


@pytest.mark.parametrize("call", CONTROL)
def test_a_partner_controls_nothing(deployment, partner, call):
    """The same bytes that SuperLink takes on loopback from whoever asks."""
    body = CONTROL[call].SerializeToString()
    assert (
        partner(
            "POST",
            f"/v1/control/{call}",
            body,
            f"Content-Type: {PROTOBUF_MEDIA_TYPE}",
            f"Accept: {PROTOBUF_MEDIA_TYPE}",
        )
        == 404
    )


def test_nor_does_flowers_own_client_through_the_gate(deployment):
    link = deployment.link
    with Control(link.gate_address, link.authority.certificate) as control:
        for call in (
            control.runs,
            control.nodes,
            lambda: control.register("intruder", b"x"),
            lambda: control.start_run(build_fab(), {}),
            lambda: control.stop_run(1),
            lambda: list(control.logs(1)),
        ):
            with pytest.raises(DeploymentError, match="refused"):
                call()
    assert not [n for n in link.nodes() if n.name == "intruder"]
    assert not [r for r in link.runs() if not r.job]


def test_nobody_takes_a_task_without_the_executors_secret(deployment, partner):
    """Neither through the gate nor on loopback, where another user of the machine may sit."""
    request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]).SerializeToString()
    assert partner("POST", "/v1/runtime/acquire-task", request, f"Content-Type: {PROTOBUF_MEDIA_TYPE}") == 404
    trust = ssl.create_default_context(cafile=str(deployment.link.authority.certificate))
    answer = httpx.post(
        f"https://{deployment.link.address}/v1/runtime/acquire-task",
        content=request,
        headers={"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE},
        verify=trust,
    )
    assert answer.status_code == 401


def test_superlink_listens_on_loopback_only(deployment):
    assert deployment.link.address.startswith("127.0.0.1:")
    port = int(deployment.link.address.rpartition(":")[2])
    outside = {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None)} - {"127.0.0.1", "127.0.1.1", "::1"}
    for address in outside:
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            socket.create_connection((address, port), 2)


@pytest.mark.parametrize("path", sorted(FLEET_PATHS))
def test_the_paths_of_a_node_lead_to_superlink_which_asks_who_it_is(partner, path):
    assert partner("POST", path, b"", f"Content-Type: {PROTOBUF_MEDIA_TYPE}", f"Accept: {PROTOBUF_MEDIA_TYPE}") == 401


def test_bodies_have_a_declared_size_and_a_limit(partner):
    path = "/v1/fleet/pull-messages"
    assert partner("POST", path, b"", f"Content-Length: {MAX_BODY + 1}") == 413
    assert partner("POST", path, b"", "Content-Length: " + "9" * 30) in (400, 413)
    assert partner("POST", path, b"0\r\n\r\n", "Transfer-Encoding: chunked") == 411
    assert partner("POST", path, b"x", "Content-Length: -1") in (400, 411)


def test_the_gate_speaks_tls_only(deployment):
    host, _, port = deployment.link.gate_address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as wire:
        wire.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b"HTTP/1.1 " not in wire.recv(1000)


def test_a_silent_connection_is_closed_and_one_that_asks_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "SILENT_S", 1)
    tls, port = Authority.create(tmp_path / "tls", "Tests"), free_port()
    files = (str(tls.certificate), str(tls.server_certificate), str(tls.server_key))
    server = gate.make_server(gate.GateSettings("127.0.0.1", port, "https://127.0.0.1:1", *files))
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    while not server.started:
        time.sleep(0.02)
    trust = ssl.create_default_context(cafile=files[0])
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    def dial(first: bytes) -> ssl.SSLSocket:
        wire = trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), server_hostname="127.0.0.1")
        wire.sendall(first)
        return wire

    try:
        with dial(b"") as mute, dial(request[:9]) as slow, dial(request + request[:9]) as second, dial(b"") as busy:
            for _ in range(22):  # longer than any silence may last
                busy.sendall(request)
                assert busy.recv(1000).startswith(b"HTTP/1.1 404")
                time.sleep(0.1)
            assert second.recv(1000).startswith(b"HTTP/1.1 404")
            assert [wire.recv(1000) for wire in (mute, slow, second)] == [b"", b"", b""]
    finally:
        server.should_exit = True
        serving.join(10)
    assert gate.CONNECTIONS > 2 * MAX_MEMBERS
