"""Long-lived children by name: found again by their pid files, told alive by a lock that each holds until it dies.

A pid alone may long belong to somebody else; a lock (``flock``) goes with its process, also at a kill -9.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fedprofile.errors import DeploymentError, UsageError

SUPERVISOR = "serve"
"""The one that starts the others; its group may be its caller's."""
_LOG_LIMIT = 10 * 2**20


class Processes:
    """Children whose ``NAME.pid``, ``NAME.lock`` and ``NAME.log`` lie in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def held(self, name: str) -> bool:
        """Whether that process lives."""
        if not (self.folder / f"{name}.lock").exists():
            return False
        with open(self.folder / f"{name}.lock") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def pid(self, name: str) -> int | None:
        """Of a process that lives."""
        if not self.held(name):
            return None
        with suppress(OSError, ValueError):
            return int((self.folder / f"{name}.pid").read_text())
        return None

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Be that process. Raises UsageError where another one is."""
        lock = self._lock(name)
        try:
            self._note(name, os.getpid())
            yield
        finally:
            (self.folder / f"{name}.pid").unlink(missing_ok=True)
            os.close(lock)

    def spawn(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a child in a session of its own; it and its own children write to ``NAME.log``."""
        lock = self._lock(name)
        log = self.folder / f"{name}.log"
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        try:
            with open(log, "ab") as out:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=dict(env),
                    cwd=self.folder,
                    pass_fds=(lock,),
                    start_new_session=True,
                    umask=0o077,
                )
        except OSError as error:
            raise DeploymentError(f"{command[0]} does not start ({error.strerror})", "Reinstall.") from None
        finally:
            os.close(lock)
        self._note(name, child.pid)
        return child

    def end(self, name: str, seconds: float) -> bool:
        """SIGTERM to the child and all that it started, SIGKILL after ``seconds``; whether it lived."""
        pid = self.pid(name)
        if pid is None:
            return False
        give_up = time.monotonic() + seconds
        leads = os.getpgid(pid) == pid and name != SUPERVISOR
        _signal(pid, signal.SIGTERM, leads)
        while self.held(name) and time.monotonic() < give_up:
            time.sleep(0.05)
        if leads or self.held(name):
            _signal(pid, signal.SIGKILL, leads)
        return True

    def _lock(self, name: str) -> int:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(20):  # a look at the lock, which takes microseconds, must not pass for its holder
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                return lock
        os.close(lock)
        raise UsageError(f"{name} runs already under {self.folder}", "Stop it first.")

    def _note(self, name: str, pid: int) -> None:
        (self.folder / f"{name}.pid").write_text(str(pid))


def _signal(pid: int, number: signal.Signals, group: bool) -> None:
    with suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, number)
