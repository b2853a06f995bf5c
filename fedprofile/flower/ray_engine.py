"""The same two apps in Flower's own simulation engine on Ray: many nodes, a shared pool of actors."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation

from fedprofile.flower.client_app import HOMES
from fedprofile.flower.server_app import JOB, abandon


def run_on_ray(
    server_app: ServerApp, client_app: ClientApp, homes: Mapping[str, Path], job: Path, workers: int
) -> None:
    """Run with ``workers`` actors of one CPU each. A node's state lies in its home, so any actor can serve it."""
    index = job / "homes.json"
    index.write_text(json.dumps([str(h) for h in homes.values()]))
    # actors inherit the environment; PYTHONPATH is listed because flwr changes it for good
    settings = {
        HOMES: str(index),
        JOB: str(job),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    backend: Any = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"num_cpus": workers, "include_dashboard": False},
    }
    with _environment(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        logging.getLogger("flwr").setLevel(logging.ERROR)
        try:
            run_simulation(server_app, client_app, len(homes), backend_config=backend)
        finally:
            abandon(job)  # the ServerApp's thread must not wait for actors that are gone


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
