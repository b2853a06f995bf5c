"""The union of all parties' customers, sans-io: each party's side, and the coordinator's (README.md beside this file).

A customer's name is N(id) = SHA-256 of x(k_1 ... k_n H(id)), where k_i is party i's own key: nobody can name anybody
without all the others. A party gets the names of its own customers by sending them round the ring of all parties,
blinded by a factor that it takes off at the end; the coordinator gets every party's names, knows no key, and makes the
one sorted list of all names. In it a party finds what it has sent, and nothing of who else sent it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from fedprofile.alignment.curve import POINT, SCALAR_BYTES, mask, masked_hashes, quotient, scalar
from fedprofile.alignment.letters import PSEUDONYM, size_class
from fedprofile.alignment.psi import Ids, Mask, Positions, Rand, message_of, permutation, split
from fedprofile.secagg.codes import remote
from fedprofile.types import digest

NAME = PSEUDONYM
SHARES = 16
"""In how many parts of a party's list its overlap with the label owner is told: whoever lists others than its own
customers can make one person's being the label owner's turn it."""


class Holder:
    """One party's side. ids (n,): normalised and unique.

    ``lasting`` gives the key and the padding, the same for as long as one roster lives; ``fresh`` the blinding and the
    order of one run. A name thus lasts as long as the roster, and so does what is released for it.
    """

    def __init__(self, ids: Ids, roster: bytes, lasting: Rand, fresh: Rand) -> None:
        self.known, self._roster = len(ids), roster
        self._key, self._blinding = scalar(lasting(SCALAR_BYTES)), scalar(fresh(SCALAR_BYTES))
        self.size = size_class(self.known)
        padding = [b"\0" + lasting(32) for _ in range(self.size - self.known)]
        self._messages = [message_of(str(i)) for i in ids] + padding
        self._order = permutation(self.size, fresh)

    def points(self) -> bytes:
        """``size`` blinded points, 32 bytes each; customers and padding look alike."""
        return masked_hashes([self._messages[i] for i in self._order], self._blinding)

    def mask(self, points: bytes) -> bytes:
        """Another party's points under this one's key, in their order.

        Raises RemoteProtocolError: wrong_length, duplicate_points, bad_point.
        """
        refuse_duplicates(points)
        return mask(points, self._key)

    def names(self, points: bytes) -> list[bytes]:
        """The names of all ``size`` messages, customers first in the order of ``ids``, from what came back.

        Raises RemoteProtocolError: wrong_length, duplicate_points, bad_point.
        """
        if len(points) != self.size * POINT:
            raise remote("wrong_length", "points")
        refuse_duplicates(points)
        values = split(mask(points, quotient(self._key, self._blinding)), POINT)
        of = dict(zip(self._order.tolist(), values, strict=True))
        return [name_of(self._roster, m, of[i]) for i, m in enumerate(self._messages)]

    def __repr__(self) -> str:
        return "Holder()"


def refuse_duplicates(points: bytes) -> None:
    """Raises RemoteProtocolError: wrong_length, duplicate_points."""
    each = split(points, POINT)
    if len(set(each)) != len(each):
        raise remote("duplicate_points")


def name_of(roster: bytes, message: bytes, value: bytes) -> bytes:
    return digest("name/1", roster, message, value)[:NAME]


def spine_hash(spine: bytes, plan: bytes) -> bytes:
    """What every later round of the run is bound to."""
    return digest("union-spine/1", plan, spine)


def slots_of(names: list[bytes], spine: bytes, size: int) -> Positions:
    """Where each of a party's own names stands in the list of all.

    Raises RemoteProtocolError: wrong_length, wrong_spine (not sorted, a name twice, one of the own names missing).
    """
    if len(spine) != size * NAME or size != size_class(size):
        raise remote("wrong_length", "the spine")
    every = split(spine, NAME)
    if any(a >= b for a, b in pairwise(every)):
        raise remote("wrong_spine", "the names are not in order, or one stands there twice")
    slot = {name: at for at, name in enumerate(every)}
    if not all(name in slot for name in names):
        raise remote("wrong_spine", "a name that this node sent is missing")
    return np.array([slot[name] for name in names], dtype=np.int64)


@dataclass(frozen=True)
class Union:
    """What the coordinator makes of all lists of names.

    ``spine``: sorted names, padded. ``passed`` (size,): the label owner's names that enough partners sent as well, the
    only slots whose score sum it passes on. ``shares``: of each partner's list, the part that the label owner sent too.
    """

    spine: bytes = field(repr=False)
    passed: Mask = field(repr=False)
    shares: Mapping[str, int]

    @property
    def size(self) -> int:
        return len(self.spine) // NAME


def unite(lists: Mapping[str, list[bytes]], owner: str, min_views: int) -> Union:
    """``lists``: each party's names. What pads the union follows from who sent which name, which no party can guess."""
    sent = {party: set(names) for party, names in lists.items()}
    real = set().union(*sent.values())
    mark = digest("union-padding/1", *(b"".join(sorted(sent[p])) for p in sorted(sent)))
    padding = (
        digest("union-pad/1", mark, i.to_bytes(4, "big"))[:NAME] for i in range(size_class(len(real)) - len(real))
    )
    spine = sorted(real.union(padding))
    views = np.array([sum(n in names for p, names in sent.items() if p != owner) for n in spine])
    owned = np.array([n in sent[owner] for n in spine])
    partners = {p: names for p, names in sent.items() if p != owner}
    shares = {p: round(SHARES * len(names & sent[owner]) / len(names)) for p, names in partners.items()}
    return Union(b"".join(spine), owned & (views >= min_views), shares)
