"""Verifying the uploads of one round and adding them: as the coordinator does, and as every node may do again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedprofile.secagg.codes import remote
from fedprofile.secagg.encoding import dequantise, unpack, vectors
from fedprofile.secagg.masking import add_vectors
from fedprofile.secagg.messages import expected_upload_size
from fedprofile.secagg.round_messages import Round, Upload
from fedprofile.secagg.wire import ZERO_HASH, Buffer
from fedprofile.types import Layout, Roster, RoundId


@dataclass(frozen=True)
class Terms:
    """What every upload of one round has to say; ``contributors`` are party ids in wire order."""

    id: RoundId
    h: bytes
    contributors: tuple[str, ...]
    layout: Layout
    spine_hash: bytes = ZERO_HASH
    bundle_hash: bytes = ZERO_HASH
    epoch: int = 0

    @staticmethod
    def of(round: Round, h: bytes) -> Terms:
        return Terms(
            round.id, h, round.contributors, round.layout, round.spine_hash, round.bundle_hash, round.epoch
        )  # fmt: skip


class Tally:
    """The sum so far, as bytes of a masked vector, and who is in it: memory of one vector, whatever the number.

    ``threads`` changes speed only.
    """

    def __init__(self, roster: Roster, terms: Terms, *, threads: int = 1) -> None:
        self._roster, self.terms, self._threads = roster, terms, threads
        self.total = bytearray(terms.layout.nbytes)
        self.seen: set[str] = set()

    def add(self, party: str, upload: Buffer) -> None:
        """Verifies one Upload and adds it; nothing of it is kept.

        Raises RemoteProtocolError: wrong_length, wrong_round, unknown_party, duplicate, bad_root, bad_signature.
        """
        if memoryview(upload).nbytes != expected_upload_size(self.terms.layout):
            raise remote("wrong_length", f"upload of party {party!r}")
        message = Upload.decode(upload, self._roster)
        self.check(party, message)
        self.take(message)

    def check(self, party: str, message: Upload) -> None:
        """Whether it is this party's first of this round.

        Raises RemoteProtocolError: wrong_round, unknown_party, duplicate.
        """
        terms = self.terms
        if message.party != party or party not in terms.contributors:
            raise remote("unknown_party", f"upload in the name of party {party!r}")
        said = (message.id, message.h, message.spine_hash, message.bundle_hash, message.epoch)
        if said != (terms.id, terms.h, terms.spine_hash, terms.bundle_hash, terms.epoch):
            raise remote("wrong_round", f"upload of party {party!r}")
        if party in self.seen:
            raise remote("duplicate", f"upload of party {party!r}")

    def take(self, message: Upload) -> None:
        """Adds a checked Upload whose hash and signature hold. Raises RemoteProtocolError: bad_root, bad_signature."""
        message.verify(self._roster, threads=self._threads)
        y, total = vectors(message.y, self.terms.layout), vectors(self.total, self.terms.layout)
        add_vectors(total, [y], threads=self._threads)
        self.seen.add(message.party)

    def ensure_whole(self) -> None:
        """Raises RemoteProtocolError("missing_member") before every contributor is in."""
        if missing := sorted(set(self.terms.contributors) - self.seen):
            raise remote("missing_member", f"missing: {', '.join(missing)}")

    def values(self) -> dict[str, npt.NDArray[np.float64]]:
        """Segment name -> float64 of its shape, of what ``total`` holds now."""
        layout = self.terms.layout
        return dequantise(unpack(vectors(self.total, layout), layout), layout, threads=self._threads)


def recompute(roster: Roster, terms: Terms, uploads: Sequence[Buffer]) -> dict[str, npt.NDArray[np.float64]]:
    """The opened sum from all its signed uploads, one a contributor in wire order, whatever the coordinator says.

    Raises RemoteProtocolError: missing_member or duplicate for another number of uploads, and as ``Tally.add`` does.
    """
    if len(uploads) > len(terms.contributors):
        raise remote("duplicate", "more uploads than contributors")
    tally = Tally(roster, terms)
    for party, upload in zip(terms.contributors, uploads, strict=False):
        tally.add(party, upload)
    tally.ensure_whole()
    return tally.values()
