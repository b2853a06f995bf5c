"""What is written down instead of fetched is what Flower made, byte for byte; anything else is fetched."""

from __future__ import annotations

import importlib

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import metadata_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

from fedprofile.flower.inprocess import InProcessGrid
from fedprofile.flower.objects import quicken_pulls, told
from fedprofile.flower.records import pack

DATA = b"masked " * 1000


@pytest.fixture(autouse=True)
def _a_run():
    InProcessGrid(None, {}).close()  # Flower makes messages only inside a run


def made(content: RecordDict):
    """Flower's message of this content: metadata as SuperLink announces it, tree, and the objects themselves."""
    message = Message(content, 7, "query", ttl=60.0)
    message.metadata.__dict__["_message_id"] = message.object_id
    announced = metadata_to_proto(message.metadata)
    announced.ClearField("src_task_id")
    objects = {id: item.deflate() for id, item in get_all_nested_objects(message).items()}
    return announced, get_object_tree(message), objects


def test_all_but_the_bytes_are_known_beforehand():
    metadata, tree, objects = made(pack(DATA))
    *_, message = objects
    found = told(metadata, tree, TaskIdentity.task_id)
    assert found == {id: content for id, content in objects.items() if DATA not in content}
    assert len(found) == 2
    assert told(metadata, tree, 0) == {id: content for id, content in found.items() if id != message}
    metadata.ttl += 1
    assert message not in told(metadata, tree, TaskIdentity.task_id)


OTHERS = [
    RecordDict(),
    RecordDict({"other": ConfigRecord({"envelope": DATA})}),
    RecordDict({"a": ConfigRecord({"x": 1}), "b": ConfigRecord({"x": 2})}),
]


@pytest.mark.parametrize("content", OTHERS)
def test_another_senders_message_is_only_taken_where_it_is_certain(content):
    metadata, tree, objects = made(content)
    assert told(metadata, tree, TaskIdentity.task_id).items() <= objects.items()


@pytest.mark.parametrize("content", [pack(DATA), *OTHERS])
def test_the_server_app_asks_for_the_message_first_and_gets_all(monkeypatch, content):
    grid = importlib.import_module("flwr.superlink.grid.http_grid")
    monkeypatch.setattr(grid, "pull_objects", getattr(grid.pull_objects, "_pull", grid.pull_objects))
    quicken_pulls()
    quick = grid.pull_objects
    quicken_pulls()
    assert grid.pull_objects is quick

    _, _, objects = made(content)
    asked = []
    found = quick(list(objects), lambda id: asked.append(id) or objects[id])
    assert found == objects
    assert asked[0] == list(objects)[-1]
    assert len(asked) == (2 if "fedprofile" in content else len(objects))
