"""A node's side of fps1, strict profile: bytes in, bytes out; the journal is written before anything is returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedprofile.errors import RemoteProtocolError
from fedprofile.secagg.codes import local, refusal, remote
from fedprofile.secagg.encoding import dequantise, pack, unpack, vectors
from fedprofile.secagg.masking import add_masks
from fedprofile.secagg.policy import check_round
from fedprofile.secagg.record import Entry, round_entry
from fedprofile.secagg.round_messages import MaskedSum, Round, Upload
from fedprofile.secagg.setup_session import Journal, SetupSession
from fedprofile.secagg.transitions import STRICT_AT_NODE, State, Sum, Table
from fedprofile.secagg.wire import ZERO_HASH, Buffer
from fedprofile.types import Quantised, RoundId

__all__ = ["ClientSession", "Journal", "State"]
Sums: TypeAlias = dict[str, npt.NDArray[np.float64]]


class ClientSession(SetupSession):
    """One node in one run: the set-up of SetupSession, whose arguments it takes, then rounds.

    ``verify_round`` then ``contribute`` (or, for the label owner in a score sum, ``open_sum``).
    """

    def verify_round(self, data: bytes) -> Round:
        """The round, checked against transcript, policy and this node's past; the keys before its t are erased.

        Raises RemoteProtocolError or PolicyRefusal and then changes nothing.
        """
        self._ready()
        asked = self._live().request
        round = Round.decode(data, self.roster, threads=self._threads)
        if round.id.run_id != self.run_id:
            raise remote("wrong_run")
        if round.policy_hash != self._common.hash:
            raise remote("wrong_policy")
        if self.me not in round.cohort or not set(round.cohort) <= set(asked.cohort):
            raise refusal("cohort_refused", "not within the cohort of the set-up, or without this node")
        check_round(self.policy, self.roster, round, RemoteProtocolError)
        self._check_graph(round.contributors, round.id)
        self._record.check_round(round, self.policy, self._table(round.id), self._clock())
        self.advance(round.id.t)
        self._record.see(round)
        self._verified[round.id.kind, round.id.scope] = round.bind(self._t0)
        return round

    def bound(self, round: Round) -> bytes:
        """H of a round under this set-up: what every upload of it has to carry."""
        self._ready()
        return round.bind(self._t0)

    def contribute(self, round: Round, quantised: Quantised, audit_head: bytes = ZERO_HASH) -> bytes:
        """The Upload for the round that verify_round returned last for its kind and scope, once.

        quantised: integers of ``round.layout``; a retry of a t takes the same ones, from the node's home.
        Raises LocalProtocolError: not_verified, already_contributed, retry_differs, bad_values,
        wrong_length, opener_uploads_nothing.
        """
        h = self._current(round)
        if self.me == round.id.opener:
            raise local("opener_uploads_nothing")
        if len(audit_head) != len(ZERO_HASH):
            raise local("wrong_length", "audit_head has 32 bytes")
        y = pack(quantised, round.layout, threads=self._threads)
        mac = self._identity.tag(y, "integers/3", round.id.run_id, round.basis).hex()
        if self._record.mac_of_retry(round) not in ("", mac):
            raise local("retry_differs", "other integers than in the first attempt")
        self._mask(y, round, h)
        upload = Upload.of(round, self.me, h, audit_head, y, self._identity, threads=self._threads)
        facts = {"mac": mac, "root": upload.root.hex(), "audit_head": audit_head.hex()}
        return self._send(upload, round, round_entry("upload", round, self._clock(), **facts))

    def _send(self, upload: Upload, round: Round, entry: Entry) -> bytes:
        self._commit(entry)
        del self._verified[round.id.kind, round.id.scope]
        return upload.encode()

    def open_sum(self, masked: bytes, round: Round, keep: Callable[[Sums], None] = lambda _: None) -> Sums:
        """The opener's own pads removed: segment name -> float64 sum over the contributors, once per (t, kind, scope).

        ``keep`` has the sum before the journal says that it is open; where it fails, nothing was opened.
        Raises RemoteProtocolError (wrong_round, bad_root, wrong_length), PolicyRefusal("opened_before"),
        LocalProtocolError("wrong_opener").
        """
        self._record.check_open(round)
        h = self._current(round, "MaskedSum")
        if self.me != round.id.opener:
            raise local("wrong_opener")
        message = MaskedSum.decode(masked, self.roster, threads=self._threads)
        if (message.id, message.h) != (round.id, h):
            raise remote("wrong_round", MaskedSum.TYPE)
        if len(message.y) != round.layout.nbytes:
            raise remote("wrong_length", MaskedSum.TYPE)
        total = bytearray(message.y)
        self._mask(total, round, h)
        sums = dequantise(unpack(vectors(total, round.layout), round.layout), round.layout, threads=self._threads)
        keep(sums)
        self._commit(round_entry("open", round, self._clock()))
        del self._verified[round.id.kind, round.id.scope]
        return sums

    def _mask(self, y: Buffer, round: Round, h: bytes) -> None:
        """Adds this node's pads; the opener adds them to the others' sum, where they cancel what is left."""
        if self.profile != "none":
            add_masks(vectors(y, round.layout), self._ready().pads(h, round.cohort), threads=self._threads)

    def _check_graph(self, contributors: tuple[str, ...], id: RoundId) -> None:
        """Strict: the graph is complete, which holds against any number of colluders."""

    def _table(self, id: RoundId) -> Table[Sum]:
        return STRICT_AT_NODE

    def _current(self, round: Round, event: str = Upload.TYPE) -> bytes:
        """H of a verified round that is still open and whose keys still exist."""
        keys, h = self._ready(), self._verified.get((round.id.kind, round.id.scope))
        self._record.check_event(self._table(round.id), round.id, event, local)
        if h is None or h != round.bind(self._t0) or keys.t != round.id.t:
            raise local("not_verified")
        return h
