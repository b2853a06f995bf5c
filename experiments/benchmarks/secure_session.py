"""A consortium in memory that has finished its set-up: rounds go through the real sessions, bytes in, bytes out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.encoding import quantise
from fedprofile.secagg.identity import Identity, sign_roster
from fedprofile.secagg.server import ServerSession
from fedprofile.types import Layout, Party, Policy, Roster, RoundId

RUN = bytes(32)


class Consortium:
    """n nodes and a coordinator in the strict profile, journals in memory; nodes are numbered from 0."""

    def __init__(self, n: int, threads: int) -> None:
        self.names = tuple(f"node{i}" for i in range(n))
        identities = {p: Identity.generate() for p in self.names}
        parties = tuple(Party(p, p, "bank" if p == "node0" else "shop", identities[p].sign_pk) for p in self.names)
        roster = sign_roster(Roster(1, b"", parties, "node0"), identities)
        policy = Policy(max_uploads=10**6)
        self.threads, self.t = threads, -1
        self.server = ServerSession(RUN, roster, policy, self.names, threads=threads)
        self.nodes = {
            p: ClientSession(identities[p], p, roster, policy, os.urandom, [].append, threads=threads)
            for p in self.names
        }
        request = self.server.setup_request()
        bundle = self.server.key_bundle({p: s.handle(request) for p, s in self.nodes.items()})
        opens = self.server.open_bundle({p: s.handle(bundle) for p, s in self.nodes.items()})
        for session in self.nodes.values():
            session.handle(opens)

    def begin(self, layout: Layout, model: bytes) -> bytes:
        """The next Round."""
        self.t += 1
        return self.server.round(self.id, self.names, layout, model)

    @property
    def id(self) -> RoundId:
        return RoundId(RUN, "update", "", self.t)

    def upload(self, node: int, begun: bytes, vector: npt.NDArray[np.float32]) -> bytes:
        """A node's whole step: verify the Round, quantise, mask, hash, sign."""
        session = self.nodes[self.names[node]]
        asked = session.verify_round(begun)
        integers = quantise({"w": vector}, asked.layout, os.urandom, threads=self.threads)
        return session.contribute(asked, integers)

    def open(self, uploads: Sequence[bytes]) -> npt.NDArray[np.float64]:
        """The coordinator's step: each Upload verified and added, then the sum."""
        for name, upload in zip(self.names, uploads, strict=True):
            self.server.add(self.id, name, upload)
        return self.server.open(self.id).values["w"]
