from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from fedprofile.errors import ConfigError, UsageError
from fedprofile.mlflow_io import ui


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_command_is_the_light_one() -> None:
    argv, env = ui.command("sqlite:////home/runs/mlflow.db", 5001)
    assert argv[1:4] == ["-m", "mlflow", "ui"]
    options = dict(zip(argv[4::2], argv[5::2], strict=True))
    assert options == {
        "--backend-store-uri": "sqlite:////home/runs/mlflow.db",
        "--artifacts-destination": "/home/runs/mlartifacts",
        "--host": "127.0.0.1",
        "--port": "5001",
        "--workers": "1",
    }
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "PATH" in env


def test_a_server_is_not_served_again_and_a_port_in_use_is_named() -> None:
    with pytest.raises(ConfigError, match="its own UI"):
        ui.command("http://host:5000", 5001)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be used"):
            ui.serve("sqlite:////nowhere/mlflow.db", port)
    with pytest.raises(UsageError, match="cannot be used"):
        ui.serve("sqlite:////nowhere/mlflow.db", 70000)


def test_the_ui_answers_and_ends_on_ctrl_c(uri: str) -> None:
    port = _free_port()
    code = f"import sys; from fedprofile.mlflow_io.ui import serve; sys.exit(serve({uri!r}, {port}))"
    served = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert served.stdout is not None
        printed = next(line for line in served.stdout if line.startswith("MLflow UI"))
        assert f"http://127.0.0.1:{port}" in printed
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.status == 200
        served.send_signal(signal.SIGINT)
        assert served.wait(10) == 0
    finally:
        served.terminate()
        served.wait(20)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):  # noqa: PT011
        pass
