"""The MLflow UI, started light: one worker and no job runners (8 s and 0.5 GB instead of 56 s and 3.3 GB)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

from fedprofile.errors import ConfigError, FedprofileError, UsageError
from fedprofile.mlflow_io.store import artifact_root, check_uri

_GRACE_SECONDS = 5.0


def command(uri: str, port: int, host: str = "127.0.0.1") -> tuple[list[str], dict[str, str]]:
    """The server's arguments and whole environment; ConfigError where ``uri`` is no store that can be served."""
    if check_uri(uri).startswith("http"):
        raise ConfigError("tracking.uri", "this MLflow server has its own UI", "Open its URL in a browser.")
    argv = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    root = artifact_root(uri)
    if root is not None:
        argv += ["--artifacts-destination", str(root)]
    argv += ["--host", host, "--port", str(port), "--workers", "1"]
    light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return argv, {**os.environ, **light}


def serve(uri: str, port: int = 5000, host: str = "127.0.0.1") -> int:
    """Run the UI until Ctrl-C or SIGTERM, which end it and its workers; prints the URL once it answers.

    Returns 0 after such an end. Call it from the main thread.
    Raises UsageError for a port in use, ConfigError as ``command``, FedprofileError where MLflow does not start.
    """
    argv, env = command(uri, port, host)
    _check_port(host, port)
    before = signal.signal(signal.SIGTERM, _interrupt)
    # a session of its own: the whole group is ended together, and only by us
    child = subprocess.Popen(argv, env=env, start_new_session=True)
    try:
        while child.poll() is None and not _answers(host, port):
            time.sleep(0.2)
        if child.poll() is None:
            print(f"MLflow UI: http://{host}:{port}  (Ctrl-C ends it)", flush=True)
        code = child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(child)
        signal.signal(signal.SIGTERM, before)
    raise FedprofileError(f"the MLflow server ended by itself with code {code}", "Its own message is above.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_port(host: str, port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"{host}:{port} cannot be used", "Choose another with --port.") from error


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _end(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(_GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
