"""A node's fps1 session across messages: in memory, or, where secrets are simulated, derived again."""

from __future__ import annotations

from typing import Any

from fedprofile.errors import RemoteProtocolError
from fedprofile.node.home import NodeHome
from fedprofile.node.journal import Journal
from fedprofile.node.randomness import session_source
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.resilient_client import ResilientSession
from fedprofile.secagg.setup_messages import is_hybrid
from fedprofile.types import Policy, Roster, RunPlan

_TRANSCRIPT, _SETUPS = "transcript.bin", "setups"


class SessionKeeper:
    """Holds the current ClientSession. Real secrets never touch a file: a restarted node asks for a new set-up."""

    def __init__(
        self, home: NodeHome, identity: Identity, roster: Roster, own: Policy, common: Policy, journal: Journal
    ) -> None:
        self._home, self._identity, self._roster, self._policy = home, identity, roster, own
        self._common = common
        self._journal = journal
        self._held: ClientSession | None = None
        self._setups = 0
        self._seen: bytes | None = None

    @property
    def _simulated(self) -> bool:
        return self._home.config.secrets == "simulated"

    def begin(self) -> ClientSession:
        """A fresh session for one more key agreement of this run."""
        self._setups = self._count() + 1
        self._home.remove(_TRANSCRIPT)
        self._home.write(_SETUPS, str(self._setups).encode())
        self._seen = None
        self._held = self._kind(*self._arguments(), **self._options())
        return self._held

    def handle(self, message: bytes) -> bytes | None:
        """One message of a set-up; keeps the public transcript, which holds no secret."""
        session = self.current
        reply = session.handle(message)
        self._seen = session.transcript()
        self._home.write(_TRANSCRIPT, self._seen)
        return reply

    def settle(self, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Answers to what follows the uploads of a resilient round, each under its own signature."""
        answers = tuple(self.current.handle(part) for part in parts)
        if any(a is None for a in answers):
            raise RemoteProtocolError("bad_order", "this message has no answer")
        return tuple(a for a in answers if a is not None)

    def end(self) -> None:
        """Forget the keys."""
        if self._held is not None:
            self._held.close()
        self._held = None
        self._home.remove(_TRANSCRIPT)

    @property
    def current(self) -> ClientSession:
        """Raises RemoteProtocolError("need_setup") when this process holds no keys and may not derive them."""
        transcript = self._home.read(_TRANSCRIPT)
        if self._held is not None and (self._setups, self._seen) == (self._count(), transcript):
            return self._held
        if not self._simulated or transcript is None:
            raise RemoteProtocolError("need_setup", "this node holds no session keys: agree keys again")
        self._setups, self._seen = self._count(), transcript
        self._held = self._kind.restore(transcript, *self._arguments(), **self._options())
        return self._held

    @property
    def _kind(self) -> type[ClientSession]:
        """The node's own configuration chooses the profile, not the coordinator."""
        return ResilientSession if self._home.config.profile == "resilient" else ClientSession

    def _arguments(self) -> tuple[Any, ...]:
        rand = session_source(self._session_key() if self._simulated else None)
        me = self._home.config.party
        return self._identity, me, self._roster, self._policy, rand, self._journal.append

    def _options(self) -> dict[str, Any]:
        config = self._home.config
        terms = {"masked": config.profile != "none", "hybrid": is_hybrid(config.kem), "common": self._common}
        return {**terms, "schema_hash": self._plan_hash(), "history": list(self._journal)}

    def _plan_hash(self) -> bytes:
        """The approved plan goes into the transcript: nodes that approved different plans share no masks."""
        plan = self._home.read("plan.json")
        if plan is None:
            raise RemoteProtocolError("no_plan", "a plan must be approved before keys are agreed")
        return RunPlan.from_json(plan).hash

    def _session_key(self) -> bytes:
        plan = self._home.read("plan.json") or b""
        return self._home.derive("session", plan, str(self._setups).encode())

    def _count(self) -> int:
        return int((self._home.read(_SETUPS) or b"0").decode())
