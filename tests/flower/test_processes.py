"""Children found by a lock that dies with them: no pid is trusted that its process does not hold."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from fedprofile.errors import DeploymentError, UsageError
from fedprofile.flower.processes import Processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)",
]


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path / "processes")
    yield made
    made.end("child", 1)


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has reaped has, too."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(what) -> None:
    give_up = time.monotonic() + 10
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_child_is_there_as_long_as_it_lives(processes):
    assert not processes.held("child")
    assert processes.pid("child") is None
    child = processes.spawn("child", SLEEP, os.environ)
    assert processes.held("child")
    assert processes.pid("child") == child.pid
    with pytest.raises(UsageError, match="runs already"):
        processes.spawn("child", SLEEP, os.environ)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not processes.held("child")
    assert processes.pid("child") is None, "the file is still there, but nobody holds the lock"


def test_another_process_sees_and_ends_it(processes, tmp_path):
    child = processes.spawn("child", SLEEP, os.environ)
    other = Processes(tmp_path / "processes")
    assert other.pid("child") == child.pid
    assert other.end("child", 5)
    assert child.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
    assert not other.end("child", 5)


def test_who_does_not_listen_is_killed(processes):
    child = processes.spawn("child", STUBBORN, os.environ)
    until(lambda: (processes.folder / "child.log").read_text() == "1\n")
    assert processes.end("child", 0.2)
    assert child.wait(5) == -signal.SIGKILL


def test_what_a_child_started_ends_with_it(processes):
    processes.spawn("child", PARENT, os.environ)
    until(lambda: (processes.folder / "child.log").read_text().endswith("\n"))
    grandchild = int((processes.folder / "child.log").read_text())
    assert not gone(grandchild)
    processes.end("child", 5)
    until(lambda: gone(grandchild))


def test_holding_is_exclusive_and_ends(processes):
    with processes.hold("me"):
        assert processes.pid("me") == os.getpid()
        with pytest.raises(UsageError, match="Stop it first"), processes.hold("me"):
            pass
    assert not processes.held("me")


def test_a_program_that_is_missing_is_named(processes):
    with pytest.raises(DeploymentError, match="no-such-program"):
        processes.spawn("child", ["/no-such-program"], os.environ)
    assert not processes.held("child")
