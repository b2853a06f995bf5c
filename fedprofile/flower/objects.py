"""What Flower's objects are made of, so that those which say nothing new are written down here instead of fetched.

A message of ours is three objects: the message's metadata, which whoever pulls it is told anyway, a dictionary of one
record, and the record with the bytes. SuperLink answers for each object apart, and its time is most of a round's.
Objects are named by their SHA-256: one written here is used only where it has the name that was announced, and any
other, as of another sender or another release of Flower, is fetched as before.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER

from fedprofile.flower.records import RECORD

log = logging.getLogger(__name__)


def told(metadata: Metadata, tree: ObjectTree, task: int) -> dict[str, bytes]:
    """Object id -> content, of those objects of an announced message that need not be fetched.

    ``task``: the sender's task id, which SuperLink does not announce but a run's earlier messages held.
    """
    if len(tree.children) != 1 or len(tree.children[0].children) != 1:
        return {}
    inner = tree.children[0]
    bare = Metadata()
    bare.CopyFrom(metadata)
    bare.message_id, bare.src_task_id = "", task
    body = Message(metadata=bare).SerializeToString(deterministic=True)
    made = (_object("Message", inner.object_id, body), dictionary(inner.children[0].object_id))
    named = {hashlib.sha256(content).hexdigest(): content for content in made}
    return {id: named[id] for id in (tree.object_id, inner.object_id) if id in named}


def dictionary(record: str) -> bytes:
    """The object that holds the record of this id, and nothing else."""
    return _object("RecordDict", record, json.dumps({RECORD: record}).encode())


def _object(kind: str, child: str, body: bytes) -> bytes:
    head = HEAD_VALUE_DIVIDER.join((kind, child, str(len(body))))
    return head.encode() + HEAD_BODY_DIVIDER + body


def quicken_pulls(first_s: float = 0.05, longest_s: float = 0.5, within_s: float = 15.0) -> None:
    """Let Flower's grid wait .05 s, not 1 s, for the bytes of a reply that is announced, and 15 s, not 180 s, in all.

    The message is waited for first: it is brought up last, so that the others need no second asking. Touches a name
    that Flower does not promise; without it a round costs a second more.
    """
    grid: Any = importlib.import_module("flwr.superlink.grid.http_grid")
    waits = {"initial_backoff": first_s, "backoff_cap": longest_s, "max_time": within_s}
    pull = getattr(grid, "pull_objects", None)
    if pull is None or not waits.keys() <= inspect.signature(pull).parameters.keys():
        log.warning("this release of Flower waits longer for replies")
    elif not isinstance(pull, _Pull):
        grid.pull_objects = _Pull(pull, waits)


class _Pull:
    """In the place of Flower's ``pull_objects``."""

    def __init__(self, pull: Callable[..., dict[str, bytes]], waits: dict[str, float]) -> None:
        self._pull, self._waits = pull, waits

    def __call__(self, object_ids: Sequence[str], pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
        """``object_ids`` as Flower orders them: what an object holds comes before it, the message last."""
        *inner, message = object_ids
        found = self._pull([message], pull_object_fn, **self._waits)
        made = {hashlib.sha256(content).hexdigest(): content for content in map(dictionary, inner)}
        found |= {id: made[id] for id in inner if id in made}
        return found | self._pull([id for id in inner if id not in found], pull_object_fn, **self._waits)
