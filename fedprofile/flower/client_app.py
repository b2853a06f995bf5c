"""The ClientApp: hands bytes to the node whose home this process was told, and hands its answer back.

A node's home comes from ``node_config["home"]``; on Ray, where Flower gives only a partition number, from the
index file that ``FEDPROFILE_HOMES`` names. Nothing of the node is ever placed in a Flower Context.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from fedprofile.errors import UsageError
from fedprofile.flower.records import OTHER_RELEASE, REFUSED, pack, unpack

if TYPE_CHECKING:
    from fedprofile.node.party import Node

HOMES = "FEDPROFILE_HOMES"
app = ClientApp()
_nodes: dict[Path, Node] = {}


@app.query()
def answer(message: Message, context: Context) -> Message:
    # only a stock SuperNode hands a run's configuration on; a resident node has compared the bundle's hash
    if context.run_config and context.run_config.get("release") != version("fedprofile"):
        return Message(Error(REFUSED, OTHER_RELEASE), reply_to=message)
    node = _node(_home(context))
    return Message(pack(node.handle(unpack(message))), reply_to=message)


def forget(homes: list[Path]) -> None:
    """Drop nodes kept warm in this process, session keys included."""
    for home in homes:
        _nodes.pop(home, None)


def _home(context: Context) -> Path:
    if "home" in context.node_config:
        return Path(str(context.node_config["home"]))
    if HOMES in os.environ and "partition-id" in context.node_config:
        index = json.loads(Path(os.environ[HOMES]).read_text())
        return Path(index[int(context.node_config["partition-id"])])
    raise UsageError("this Flower node was given no home", f"Set home in its node config, or {HOMES} on Ray.")


def _node(home: Path) -> Node:
    import torch

    torch.set_num_threads(1)  # of the calling thread: equal results wherever the node runs
    # the same flag as use_deterministic_algorithms, which would load torch's compiler first: 2 s of start-up
    torch.set_deterministic_debug_mode("error")
    if home not in _nodes:
        from fedprofile.label_owner.party import open_node

        _nodes[home] = open_node(home)
    return _nodes[home]
