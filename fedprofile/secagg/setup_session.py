"""A node's set-up in fps1: the table of transitions, the checks of a SetupReq, and restoring from public messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedprofile.errors import ProtocolError
from fedprofile.secagg.codes import local, refusal, remote
from fedprofile.secagg.encoding import Rand
from fedprofile.secagg.handshake import Agreed, Handshake
from fedprofile.secagg.identity import Identity, check_roster
from fedprofile.secagg.keys import Ephemeral, PairKeys
from fedprofile.secagg.open_messages import OpenBundle
from fedprofile.secagg.policy import check_hidden, check_whole, stricter
from fedprofile.secagg.record import Entry, Record, setup_entry
from fedprofile.secagg.setup_messages import Complaint, KeyBundle, Profile, SetupReq
from fedprofile.secagg.transcript import join, split
from fedprofile.secagg.transitions import SETUP_AT_NODE, State
from fedprofile.secagg.wire import ZERO_HASH, Buffer, message_type
from fedprofile.types import Policy, Roster

Journal = Callable[[Entry], None]
Clock = Callable[[], float]


class SetupSession:
    """One node in one run, up to its pair keys; ``ClientSession`` adds the rounds.

    roster: the pinned one, verified by the caller. policy: this node's own; ``common`` is the minimum
    whose hash all parties put into the transcript (default: the same), and the stricter of both holds.
    rand: the node's secret bytes. journal: called with a JSON-able entry before a message is returned.
    clock: seconds since 1970, for what is counted by the day. history: all entries that the journal ever took, of
    earlier runs too. ``masked=False`` is the research mode without pads; ``hybrid`` asks for ML-KEM-768 beside
    X25519; ``threads`` changes speed only. Every refusal is a ProtocolError; after one in a set-up its keys are erased.
    """

    def __init__(
        self,
        identity: Identity,
        me: str,
        roster: Roster,
        policy: Policy,
        rand: Rand,
        journal: Journal,
        *,
        masked: bool = True,
        hybrid: bool = False,
        common: Policy | None = None,
        clock: Clock = time.time,
        schema_hash: bytes = ZERO_HASH,
        history: Iterable[Mapping[str, Any]] = (),
        threads: int = 1,
    ) -> None:
        check_roster(roster)
        if me not in {p.id for p in roster.parties} or roster.party(me).sign_pk != identity.sign_pk:
            raise local("bad_identity")
        self._identity, self.me, self.roster = identity, me, roster
        self._common = common or policy
        self.policy = stricter(policy, self._common)
        self._rand, self._journal, self._record = rand, journal, Record(history)
        self._clock = clock
        self.profile: Profile = "strict" if masked else "none"
        self.hybrid = hybrid
        self._schema_hash, self._threads = schema_hash, threads
        self.state = State.IDLE
        self.run_id = b""
        self._handshake: Handshake | None = None
        self._t0 = b""
        self._keys: PairKeys | None = None
        self._seal: X25519PrivateKey | None = None
        self._verified: dict[tuple[str, str], bytes] = {}

    @classmethod
    def restore(cls, transcript: bytes, *args: Any, **options: Any) -> Self:
        """The session that made ``transcript``, in another process; takes the constructor's arguments.

        ``rand`` has to stand where it stood when the SetupReq came (simulated secrets only); nothing is
        signed or journalled again. Raises RemoteProtocolError("restore_mismatch") for other secrets,
        "setup_reused" where ``history`` knows a later set-up, and whatever the set-up's checks raise.
        """
        session = cls(*args, **options)
        request, bundle, opens = split(transcript)
        session._check_request(asked := SetupReq.decode(request, session.roster))
        if asked.hybrid:
            raise remote("need_setup", "ML-KEM secrets cannot be derived again")
        if session._record.latest_setup(asked.run_id) > asked.setup:
            raise remote("setup_reused")
        session._begin(asked)
        session._move(SetupReq.TYPE)
        if bundle:
            session._accept_bundle(bundle)
            session._move(KeyBundle.TYPE)
        if opens:
            session._on_open_bundle(opens)
            session._move(OpenBundle.TYPE)
            session.advance(max(asked.base_t, session._record.latest_t(asked.run_id)))
        return session

    def handle(self, message: bytes) -> bytes | None:
        """The answer to a set-up message, None where there is none (then the session is ready)."""
        kind = message_type(message)
        if (self.state, kind) not in SETUP_AT_NODE:
            raise remote("need_setup" if self.state is State.IDLE else "wrong_state", f"{kind} in {self.state.value}")
        steps: dict[str, Callable[[bytes], bytes | None]] = {
            SetupReq.TYPE: self._on_setup,
            KeyBundle.TYPE: self._on_key_bundle,
            OpenBundle.TYPE: self._on_open_bundle,
        }
        try:
            reply = steps[kind](message)
        except ProtocolError:
            if kind != SetupReq.TYPE:
                self._reset(State.IDLE)
            raise
        self._move(kind)
        return reply

    def _move(self, event: str) -> None:
        self.state = SETUP_AT_NODE[self.state, event]

    def _on_setup(self, data: bytes) -> bytes:
        request = SetupReq.decode(data, self.roster)
        self._check_request(request)
        now = self._clock()
        self._record.check_setup(request.run_id, request.setup, request.base_t, now)
        self._commit(setup_entry(request.run_id, request.setup, now))
        return self._begin(request).key_ad(self._identity).encode()

    def _check_request(self, request: SetupReq) -> None:
        if self.run_id and request.run_id != self.run_id:
            raise remote("wrong_run")
        if request.roster_hash != self.roster.hash:
            raise remote("wrong_roster")
        if request.policy_hash != self._common.hash:
            raise remote("wrong_policy")
        if request.schema_hash != self._schema_hash:
            raise remote("wrong_schema")
        if request.profile != self.profile:
            raise refusal("profile_mismatch", f"asked for {request.profile!r}, this node runs {self.profile!r}")
        if request.hybrid != self.hybrid:
            raise refusal("kem_mismatch")
        if self.me not in request.cohort:
            raise refusal("cohort_refused", "this node is not in the cohort")
        check_hidden(self.policy, self.roster, request.cohort)
        check_whole(self.roster, request.cohort)

    def _begin(self, request: SetupReq) -> Handshake:
        self._reset(State.IDLE)
        self.run_id = request.run_id
        self._handshake = Handshake(self.roster, self.me, request, Ephemeral.draw(self._rand, request.hybrid))
        return self._handshake

    def _accept_bundle(self, data: bytes) -> Handshake:
        handshake = self._live()
        handshake.accept_bundle(KeyBundle.decode(data, self.roster))
        return handshake

    def _on_key_bundle(self, data: bytes) -> bytes:
        return self._accept_bundle(data).key_open(self._identity).encode()

    def _on_open_bundle(self, data: bytes) -> None:
        opens = OpenBundle.decode(data, self.roster)
        self._take_keys(self._live().accept_opens(opens))

    def _take_keys(self, agreed: Agreed) -> None:
        self._t0, self._keys, self._seal = agreed.t0, agreed.keys, agreed.seal

    def advance(self, t: int) -> None:
        """Ratchets the pair keys to index ``t`` (counted from the set-up's ``base_t``) and erases the earlier ones."""
        self._ready().advance(t)

    def complaint(self, error: ProtocolError, about: Buffer = b"") -> bytes:
        """A signed Complaint with the error's code and the hash of the message it is about."""
        return Complaint.of(self.run_id or ZERO_HASH, self.me, error, about, self._identity).encode()

    def transcript(self) -> bytes:
        """The public messages of the set-up so far, for restore and for an auditor."""
        handshake = self._live()
        later = (m.encode() if m is not None else b"" for m in (handshake.bundle, handshake.opens))
        return join(handshake.request.encode(), *later)

    def peer_seal_key(self, party_id: str) -> bytes:
        """The raw X25519 key (32 bytes) that a party signed for sealed messages of this run."""
        self._ready()
        bundle = self._live().bundle
        for ad in bundle.items if bundle else ():
            if ad.party == party_id:
                return ad.pk_enc
        raise local("unknown_party")

    def own_seal_key(self) -> X25519PrivateKey:
        """The private half of this node's own sealing key. Raises RemoteProtocolError("need_setup")."""
        self._ready()
        if self._seal is None:
            raise local("wrong_state")
        return self._seal

    def close(self) -> None:
        """Ends the run here: every key is erased."""
        self._reset(State.CLOSED)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.me!r}, {self.state.value})"

    def _commit(self, entry: Entry) -> None:
        self._journal(entry)
        self._record.apply(entry)

    def _ready(self) -> PairKeys:
        if self.state is not State.READY or self._keys is None:
            raise remote("need_setup")
        return self._keys

    def _live(self) -> Handshake:
        if self._handshake is None:
            raise remote("need_setup")
        return self._handshake

    def _reset(self, state: State) -> None:
        if self._keys is not None:
            self._keys.erase()
        self._handshake, self._keys, self._seal, self._t0 = None, None, None, b""
        self._verified.clear()
        self.state = state
