"""A ServerApp of the tests: asks each node what its job says, and writes down what came back.

The job is a JSON file {"nodes": n, "ask": [[name, type, text], ...], "out": path}; node names are registered names.
The type "exchange" asks as our own ServerApp does, with short waits.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from fedprofile.flower.exchange import Exchange
from fedprofile.flower.objects import quicken_pulls
from fedprofile.flower.records import pack, unpack

PYPROJECT = b"""\
[project]
name = "fleetecho"
version = "1.0.0"
description = "tests"
license = "MIT"

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "fleet_echo:app"
clientapp = "fleet_echo:app"

[tool.flwr.app.config]
job = ""
rounds = 3
"""
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    quicken_pulls()
    job = json.loads(Path(str(context.run_config["job"])).read_text())
    while len({n.name for n in grid.get_nodes()} & {name for name, *_ in job["ask"]}) < job["nodes"]:
        time.sleep(0.1)
    ids = {n.name: n.node_id for n in grid.get_nodes()}
    found = []
    for name, kind, text in job["ask"]:
        if kind == "exchange":
            exchange = Exchange(grid, Path(job["out"]), ids, answer_s=60.0, away_s=60.0, probe_s=1.5)
            found.append([name, kind, None, exchange.talk({name: text.encode()})[name].decode()])
            continue
        (asked,) = grid.push_messages([Message(pack(text.encode()), ids[name], kind, ttl=60.0)])
        replies: list[Message] = []
        while not replies:
            time.sleep(0.1)
            replies = list(grid.pull_messages([asked]))
        reply = replies[0]
        error = [reply.error.code, reply.error.reason] if reply.has_error() else None
        found.append([name, kind, error, None if error else unpack(reply).decode()])
    Path(job["out"]).write_text(json.dumps(found))
