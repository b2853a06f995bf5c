"""A node's health on loopback: what monitoring reads, and that nothing private is in it."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from types import SimpleNamespace

import httpx
import polars as pl
import pytest

from fedprofile.deployment.health import FILE, Health, HealthServer, ask
from fedprofile.deployment.meter import Meter
from fedprofile.errors import UsageError
from fedprofile.flower.records import pack, unpack
from fedprofile.flower.resident import ResidentStatus
from fedprofile.messages import Envelope

ONLINE = ResidentStatus(connected=True, trouble="", answered=7, refused=2, last_contact=5.0)


class Process:
    """Stands for the resident node's thread: its status is the test's."""

    def __init__(self, home, status=ONLINE) -> None:
        self.home, self.status = home, status
        self.meter = Meter(lambda message, context: message)
        self.health = Health(home, lambda: self.status, self.meter)

    def get(self, server: HealthServer, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{server.port}{path}", headers=headers, trust_env=False)


def reply(type_: str, *parts: bytes) -> SimpleNamespace:
    """As much of a Flower message as a reply's content: a whole one exists only inside a run."""
    return SimpleNamespace(content=pack(Envelope(type_, {}, parts).encode()))


@pytest.fixture
def running(finished):
    world, _ = finished
    process = Process(world.home("tax"))
    with HealthServer(process.health) as server:
        yield world, process, server


def test_what_prometheus_reads(running, read_metrics):
    world, process, server = running
    for message in (reply("uploads", b"x" * 100), reply("uploads", b"y" * 50), reply("ready")):
        assert process.meter(message, None) is message
    answer = process.get(server, "/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found, rounds = read_metrics(answer.text), world.job.plan.learning.rounds
    assert found["fedprofile_up", None] == 1
    assert found["fedprofile_messages_total", "answered"] == 7
    assert found["fedprofile_replies_total", "uploads"] == 2
    sizes = sum(len(unpack(reply("uploads", b"x" * n))) for n in (100, 50))
    assert found["fedprofile_reply_bytes_total", "uploads"] == sizes
    assert found["fedprofile_uploads_total", "update"] == found["fedprofile_round", None] == rounds
    policy = world.job.policy
    used = sum(v for (name, _), v in found.items() if name == "fedprofile_uploads_total")
    assert found["fedprofile_uploads_left", "run"] == policy.max_uploads - used
    assert found["fedprofile_openings_left", None] == policy.max_openings - 1


def test_nothing_private_is_in_it(running):
    """Read as a thief would: no id, no value of a column, no key or hash of the home, nor a part of one."""
    world, process, server = running
    said = process.get(server, "/metrics").text + process.get(server, "/health").text
    home = world.home("tax")
    words = set(re.findall(r"[\w.+-]+", said))
    table = pl.read_parquet(home.path / "table.parquet")
    values = {str(v) for name in table.columns for v in table[name].to_list() if v is not None and len(str(v)) > 3}
    assert len(values) > 100
    assert not values & words
    secrets = [(home.keys / "secret.key").read_bytes().hex(), home.derive("identity").hex(), world.job.plan.seed]
    assert not [s for s in secrets if str(s)[:16] in said and len(str(s)) > 8]
    assert not re.findall(r"[0-9a-f]{16}", said), "no hash, not even of a plan"


def test_health_follows_the_process(running):
    world, process, server = running
    home = world.home("tax")
    assert process.get(server, "/health").status_code == 200
    process.status = replace(ONLINE, paused=True)
    answer = process.get(server, "/health")
    assert (answer.status_code, answer.json()["paused"]) == (200, True), "a pause is meant"
    process.status = replace(ONLINE, connected=False, trouble="unregistered")
    answer = process.get(server, "/health")
    assert (answer.status_code, answer.json()["trouble"]) == (503, "unregistered")
    assert ask(home)["trouble"] == "unregistered"
    (home.path / "policy.json").write_text("{}")
    for path in ("/health", "/metrics"):
        answer = process.get(server, path)
        assert answer.status_code == 503
        assert "policy.json was changed" in answer.text


def test_a_web_page_of_another_name_reads_nothing(running):
    _, process, server = running
    assert process.get(server, "/health", host="127.0.0.1:1").status_code == 200
    assert process.get(server, "/health", host="rebound.example").status_code == 400
    for path in ("/", "/docs", "/metrics/..%2fhealth"):
        assert process.get(server, path).status_code == 404
    assert httpx.post(f"http://127.0.0.1:{server.port}/health", trust_env=False).status_code == 405


def test_who_is_asked(finished):
    world, _ = finished
    tax, bank = world.home("tax"), world.home("bank")
    assert ask(tax) is None
    process = Process(tax)
    with HealthServer(process.health) as server:
        assert ask(tax)["answered"] == 7
        with pytest.raises(UsageError, match="not free"):
            HealthServer(process.health, server.port)
        # a crash left the bank's address behind, and this node's process got the port
        (bank.path / FILE).parent.mkdir(exist_ok=True)
        (bank.path / FILE).write_text((tax.path / FILE).read_text())
        assert ask(bank) is None
    assert not (tax.path / FILE).exists()
    assert ask(bank) is None
    for damaged in ("", "[]", '{"address": 5}'):
        (bank.path / FILE).write_text(damaged)
        assert ask(bank) is None


def test_only_loopback(running):
    _, _, server = running
    assert server._socket.getsockname()[0] == "127.0.0.1"
    with socket.socket() as probe:
        probe.settimeout(2)
        probe.connect(("127.0.0.1", server.port))
        assert probe.getpeername()[0] == "127.0.0.1"
