"""SuperLink's Fleet API as a resident node speaks it. Every name that Flower does not promise for it is imported here.

Pinned to flwr 1.41; tests/flower/test_fleet.py is the contract with a real SuperLink. Should a release break it, the
stock SuperNode runs the same ClientApp (README of the deployment), slower and with the coordinator's bundle.

Delivery is at most once: SuperLink hands a message out once and keeps its objects until ``confirm``. A node that
notes the delivery before it works on it, and confirms after the reply is up, can do it again after a crash.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, run_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors.http.utils import add_headers
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from google.protobuf.message import DecodeError

from fedprofile.crash import crash_at
from fedprofile.errors import DeploymentError, FedprofileError
from fedprofile.flower.node_key import public_pem
from fedprofile.flower.objects import told
from fedprofile.flower.tls_fault import CLOCK, MENDS, tls_fault

log = logging.getLogger(__name__)
T = TypeVar("T")

REFUSED_APP, APP_RAISED = ErrorCode.INVALID_FAB, ErrorCode.CLIENT_APP_RAISED_EXCEPTION
LOST = ErrorCode.MESSAGE_UNAVAILABLE
HEARTBEAT_MIN_S = 10.0
_PUSHES, _OBJECT_WITHIN_S = 8, 120.0


class RunOver(FedprofileError):
    """SuperLink answered 403: the run is finished or stopped, its messages are void."""


class Stopped(FedprofileError):
    """The node was told to stop while SuperLink could not be reached."""


@dataclass(frozen=True)
class Delivery:
    """A message as SuperLink announced it, without its content; ``raw`` is what a journal keeps."""

    raw: bytes = field(repr=False)

    @staticmethod
    def load(raw: bytes) -> Delivery | None:
        """From a journal; None for bytes that are no delivery."""
        try:
            found = PullMessagesResponse.FromString(raw)
            whole = len(found.messages_list) == len(found.message_object_trees) == 1
        except DecodeError:
            return None
        return Delivery(raw) if whole else None

    @property
    def run_id(self) -> int:
        return int(self._head.metadata.run_id)

    @property
    def message_id(self) -> str:
        return str(self._head.metadata.message_id)

    @property
    def head(self) -> Message:
        """Its metadata alone, enough to reply to."""
        message: Message = message_from_proto(self._head)
        return message

    def told(self, task: int) -> dict[str, bytes]:
        """Object id -> content, of what need not be fetched from a sender of this task id."""
        return told(self._head.metadata, self.tree, task)

    @property
    def _head(self) -> Any:
        return self._parsed.messages_list[0]

    @property
    def tree(self) -> Any:
        return self._parsed.message_object_trees[0]

    @property
    def _parsed(self) -> Any:
        return PullMessagesResponse.FromString(self.raw)


@dataclass(frozen=True)
class RunFacts:
    """What a node is told about a Flower run."""

    fab_hash: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Patience:
    """Seconds between tries while SuperLink cannot be reached; a node waits for as long as it is not stopped."""

    first: float = 0.2
    longest: float = 5.0


class VersionHeaders:
    """Names our Flower release to SuperLink, as Flower's own clients do, without ending the process if it differs."""

    def __init__(self, component: str) -> None:
        self._headers = dict(RuntimeVersionMetadata.from_local_component(component).as_metadata())

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        add_headers(context.request, self._headers)
        return call_next(context)


class FleetClient:
    """One node's connection. ``address`` is host:port of the gate; HTTPS_PROXY and NO_PROXY are honoured (httpx)."""

    def __init__(
        self,
        address: str,
        root_certificates: Path,
        key: ec.EllipticCurvePrivateKey,
        stop: threading.Event | None = None,
        patience: Patience | None = None,
        ask_leave: Callable[[], bool] = lambda: True,
    ) -> None:
        """``ask_leave`` is asked before each try to bring a reply up; it may wait, and says no when stopped meanwhile.

        Raises DeploymentError for a file without certificates.
        """
        self._ask_leave = ask_leave
        self._stop, self._patience = stop or threading.Event(), patience or Patience()
        self._public_key = public_pem(key.public_key())
        self._node = Node()
        self._joined = False
        self._tasks: dict[int, int] = {}
        self.trouble = ""
        try:
            self._client = FleetHttpClient.from_server_address(
                address,
                False,
                root_certificates.read_bytes(),
                interceptors=[VersionHeaders("SuperNode"), NodeAuthHttpInterceptor(key, key.public_key())],
            )
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            raise DeploymentError(f"{root_certificates} holds no certificates", "Ask for the CA's ca.crt.") from None

    # -- life ------------------------------------------------------------------------------------
    def join(self, known: int | None, heartbeat_s: float) -> int:
        """Come online; returns Flower's node id. ``known`` is that of last time: a node that crashed goes on with it.

        Raises DeploymentError where SuperLink does not take this node: certificate, clock or key.
        """
        request = ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=heartbeat_s)
        try:
            self._node = Node(node_id=self._call(self._client.ActivateNode, request).node_id)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status != 412:
                raise DeploymentError(f"the coordinator does not let this node in (HTTP {status})") from None
            if known is None:
                raise DeploymentError(
                    "the coordinator does not know this node's key, or a node with this key is online elsewhere",
                    "Have the key registered, or stop the other node; after a crash wait a minute.",
                ) from None
            self._node = Node(node_id=known)
            if not self._resume(heartbeat_s):
                raise DeploymentError(
                    "the coordinator has unregistered this node's key", "Make a new key and have it registered."
                ) from None
        self._joined = True
        return int(self._node.node_id)

    def _resume(self, heartbeat_s: float) -> bool:
        """SuperLink takes us for online still, as a crash is told by missing heartbeats only."""
        try:
            return self.heartbeat(heartbeat_s)
        except httpx.HTTPStatusError:
            return False

    def heartbeat(self, interval_s: float) -> bool:
        """Say that this node is there for another 2 x ``interval_s`` (at least 10 s). Tries once.

        Raises httpx.HTTPError.
        """
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=interval_s)
        return bool(self._client.SendNodeHeartbeat(request).success)

    def leave(self) -> None:
        """Go offline, if SuperLink can be told. Replies that the ServerApp has not fetched yet are lost by it."""
        try:
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))
        except httpx.HTTPError as error:
            log.warning("could not say good-bye: %s", type(error).__name__)

    def close(self) -> None:
        self._client.close()

    # -- messages --------------------------------------------------------------------------------
    def pull(self) -> Delivery | None:
        """The next message for this node, handed out once."""
        found = self._call(self._client.PullMessages, PullMessagesRequest(node=self._node))
        return Delivery(found.SerializeToString()) if found.messages_list else None

    def run(self, run_id: int) -> RunFacts:
        run = run_from_proto(self._call(self._client.GetRun, GetRunRequest(node=self._node, run_id=run_id)).run)
        return RunFacts(run.fab_hash, dict(run.override_config))

    def fetch(self, delivery: Delivery) -> Message:
        """The whole message. Raises DeploymentError when SuperLink has lost its objects, or they are none."""
        try:
            contents = delivery.told(self._tasks.get(delivery.run_id, 0))
            for tree in iterate_object_tree(delivery.tree):
                if tree.object_id not in contents:
                    contents[tree.object_id] = self._object(delivery.run_id, tree.object_id)
            message = inflate_object_from_contents(delivery.tree.object_id, contents)
        except (FedprofileError, httpx.HTTPError):
            raise
        except Exception as error:  # whatever Flower's parsers say to bytes that they cannot read
            raise DeploymentError(f"SuperLink sent a malformed message ({type(error).__name__})") from None
        if not isinstance(message, Message):
            raise DeploymentError("SuperLink sent something that is no message")
        message.metadata.__dict__["_message_id"] = delivery.tree.object_id
        self._tasks = {delivery.run_id: message.metadata.src_task_id or 0}
        return message

    def _object(self, run_id: int, object_id: str) -> bytes:
        request = PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
        delay, give_up = 0.02, time.monotonic() + _OBJECT_WITHIN_S
        while True:
            answer = self._call(self._client.PullObject, request)
            if answer.object_found and answer.object_available:
                return bytes(answer.object_content)
            if not answer.object_found or time.monotonic() > give_up or self._stop.wait(delay):
                raise DeploymentError("SuperLink has lost a message's content")
            delay = min(1.5 * delay, 0.5)

    def push(self, delivery: Delivery, reply: Message, seconds: float) -> None:
        """Bring a reply up; ``seconds`` is what it took to make. Pushing the same reply again is harmless."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        for attempt in range(_PUSHES):  # push sessions live in SuperLink's memory: its restart voids them
            if self._push_once(delivery, reply, seconds):
                return
            log.warning("SuperLink has lost the upload; once more")
            self._stop.wait(0.3 * 2**attempt)
        raise DeploymentError("SuperLink does not take this node's reply")

    def _push_once(self, delivery: Delivery, reply: Message, seconds: float) -> bool:
        with no_object_id_recompute():
            tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
            head = message_to_proto(remove_content_from_message(reply) if reply.has_content() else reply)
        request = PushMessagesRequest(
            node=self._node, messages_list=[head], message_object_trees=[tree], clientapp_runtime_list=[seconds]
        )
        answer = self._call(self._client.PushMessages, request, self._ask_leave)
        crash_at("uploading")
        wanted = set(answer.objects_to_push)
        for object_id, item in objects.items():
            if object_id not in wanted:
                continue
            part = PushObjectRequest(
                node=self._node,
                run_id=delivery.run_id,
                object_id=object_id,
                object_content=item.deflate(),
                session_id=answer.session_id,
            )
            if not self._call(self._client.PushObject, part, self._ask_leave).stored:
                return False
        return True

    def confirm(self, delivery: Delivery) -> None:
        """Let SuperLink forget the message; only after the reply is up."""
        request = ConfirmMessageReceivedRequest(
            node=self._node, run_id=delivery.run_id, message_object_id=delivery.message_id
        )
        self._call(self._client.ConfirmMessageReceived, request)

    # -- transport -------------------------------------------------------------------------------
    def _call(self, method: Callable[[Any], T], request: Any, leave: Callable[[], bool] = lambda: True) -> T:
        """Until SuperLink answers; ``leave`` is asked before each try.

        Raises RunOver, Stopped, or DeploymentError before the node has joined.
        """
        delay = self._patience.first
        while True:
            if not leave():
                raise Stopped("the reply was not allowed to leave")
            try:
                answer = method(request)
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status == 403:
                    raise RunOver("the run is over") from None
                if status == 401:
                    why = CLOCK
                elif status in (404, 408, 429) or status >= 500:
                    why = f"HTTP {status}"
                else:
                    raise
            except httpx.TransportError as error:
                why = tls_fault(error) or type(error).__name__
            else:
                self.trouble = ""
                return answer
            if why != self.trouble:
                log.warning("no answer from the coordinator: %s", why)
            self.trouble = why
            if not self._joined and why in MENDS:
                raise DeploymentError(why, MENDS[why])
            if self._stop.wait(delay * random.uniform(0.8, 1.2)):
                raise Stopped("the node was stopped while the coordinator could not be reached")
            delay = min(2 * delay, self._patience.longest)


def refusal(code: int, reason: str, message: Message) -> Message:
    """An error reply with a fixed reason; an exception's text never crosses."""
    return Message(Error(code, reason), reply_to=message)
