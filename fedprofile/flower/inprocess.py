"""Flower's grid inside one process: no Ray, no sockets, but the same two apps and serialised bytes both ways.

All names that Flower does not promise are imported here and covered by tests/flower/test_inprocess.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_SUPERLINK_NODE, _RUN = 1, 1
_CLIENT_APP_RAISED = 2
Tap = Callable[[str, bytes], None]
"""Called with (party, serialised reply) for every message that leaves a node."""


class InProcessGrid(Grid):
    """Node ids are 2, 3, ... in the order of ``homes``; ``workers`` threads answer, each node one message at a time."""

    poll = 0.0

    def __init__(
        self, client_app: ClientApp, homes: Mapping[str, Path], tap: Tap | None = None, workers: int = 1
    ) -> None:
        self._app, self._tap, self._pool = client_app, tap, ThreadPoolExecutor(workers)
        self._names = dict(enumerate(homes, start=2))
        self._contexts = {
            node: Context(_RUN, node, {"home": str(homes[name])}, RecordDict(), {})
            for node, name in self._names.items()
        }
        self._waiting: dict[str, Future[bytes]] = {}
        self._run = Run.create_empty(_RUN)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN, _SUPERLINK_NODE, 1

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return list(self._names)

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=node, name=name) for node, name in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            data = message_to_proto(message).SerializeToString()
            self._waiting[message.object_id] = self._pool.submit(self._answer, data)
            ids.append(message.object_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """All of them: waits for what is still being worked on."""
        return [read_message(self._waiting.pop(i).result()) for i in list(message_ids) if i in self._waiting]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _answer(self, data: bytes) -> bytes:
        message = read_message(data)
        node = message.metadata.dst_node_id
        try:
            reply = self._app(message=message, context=self._contexts[node])
        except Exception as error:  # as a SuperNode does, but never with the exception's text
            reply = Message(Error(_CLIENT_APP_RAISED, type(error).__name__), reply_to=message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        answer: bytes = message_to_proto(reply).SerializeToString()
        if self._tap is not None:
            self._tap(self._names[node], answer)
        return answer


def run_in_process(
    server_app: ServerApp,
    client_app: ClientApp,
    homes: Mapping[str, Path],
    job: Path,
    tap: Tap | None = None,
    workers: int = 1,
) -> None:
    """Run the two apps against each other; exceptions of the ServerApp come out as they are."""
    with closing(InProcessGrid(client_app, homes, tap, workers)) as grid:
        server_app(grid, Context(_RUN, 0, {}, RecordDict(), {"job": str(job)}))


def read_message(data: bytes) -> Message:
    """A serialised message, as a ``Tap`` gets it."""
    return message_from_proto(ProtoMessage.FromString(data))
