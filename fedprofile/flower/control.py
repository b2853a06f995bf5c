"""SuperLink's Control API, which only the coordinator reaches: nodes, runs and their logs, in our own words.

Flower promises the ``flwr`` commands, not these Python names; the same calls through the command line cost 0.8 s
each and print for people. All of them are imported here and covered by tests/flower/test_superlink.py.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    StreamLogsRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.constant import NOOP_FEDERATION_ID
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab

from fedprofile.errors import DeploymentError
from fedprofile.flower.fleet import VersionHeaders

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class NodeStatus:
    """A registered node. ``status`` is "registered" (never seen), "online", "offline" or "unregistered".

    ``last_seen`` (UTC) is the last heartbeat of a node that is online, the end of its being online of one that is
    not, None before the first.
    """

    node_id: int
    name: str
    public_key: bytes
    status: str
    last_seen: datetime | None


@dataclass(frozen=True)
class RunInfo:
    """A Flower run. ``status`` is "pending", "starting", "running" or "finished"; ``outcome`` is "completed",
    "failed" or "stopped" once it is finished; ``job`` is the job folder it was started for."""

    run_id: int
    status: str
    outcome: str
    details: str
    fab_hash: str
    job: str

    @property
    def finished(self) -> bool:
        return self.status == "finished"


class Control:
    """One connection to the Control API of a SuperLink at ``address`` (host:port), trusting ``ca`` alone."""

    def __init__(self, address: str, ca: Path) -> None:
        trust = ssl.create_default_context(cafile=str(ca))
        self._client = ControlHttpClient(f"https://{address}", interceptors=[VersionHeaders("flwr CLI")], verify=trust)
        # SuperLink is on this machine: a proxy that the environment names must not come between
        self._client._client.close()
        self._client._client = httpx.Client(verify=trust, timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def register(self, name: str, public_key: bytes) -> int:
        """The id that a PEM public key gets; a key is registered once for ever. Raises DeploymentError."""
        with _explained():
            return int(self._client.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name)).node_id)

    def unregister(self, node_id: int) -> None:
        """Final: neither this node nor its key comes back."""
        with _explained():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def nodes(self) -> list[NodeStatus]:
        with _explained():
            found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [_node(info) for info in found]

    def start_run(self, fab: bytes, config: dict[str, str]) -> int:
        """Start a run of this bundle; returns Flower's run id."""
        bundle = Fab(hashlib.sha256(fab).hexdigest(), fab, {})
        request = StartRunRequest(
            fab=fab_to_proto(bundle), override_config=user_config_to_proto(dict(config)), federation=NOOP_FEDERATION_ID
        )
        with _explained():
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise DeploymentError("SuperLink started no run", "See its log.")
        return int(answer.run_id)

    def runs(self) -> list[RunInfo]:
        """Oldest first."""
        with _explained():
            found = self._client.ListRuns(ListRunsRequest()).run_dict
        return [_run(found[key]) for key in sorted(found, key=lambda k: str(found[k].pending_at))]

    def stop_run(self, run_id: int) -> None:
        with _explained():
            self._client.StopRun(StopRunRequest(run_id=run_id))

    def logs(self, run_id: int) -> Iterator[str]:
        """Chunks of the ServerApp's output, until the run is over."""
        with _explained():
            for part in self._client.StreamLogs(StreamLogsRequest(run_id=run_id, after_timestamp=0.0)):
                yield part.log_output


def _node(info: Any) -> NodeStatus:
    seen = None
    if info.HasField("online_until") and info.online_until > 0:
        # a heartbeat moves it twice its interval ahead (Flower's patience)
        ahead = 2 * info.heartbeat_interval if info.status == "online" else 0.0
        seen = datetime.fromtimestamp(info.online_until - ahead, UTC)
    return NodeStatus(info.node_id, info.name, info.public_key, info.status, seen)


def _run(run: Any) -> RunInfo:
    job = run.override_config["job"].string if "job" in run.override_config else ""
    return RunInfo(run.run_id, run.status.status, run.status.sub_status, run.status.details, run.fab_hash, job)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise DeploymentError(f"SuperLink refused: {error.response.text[:200]}") from None
    except httpx.TransportError as error:
        raise DeploymentError(f"SuperLink does not answer ({type(error).__name__})", "Is the coordinator up?") from None
