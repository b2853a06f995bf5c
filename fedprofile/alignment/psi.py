"""The two sides of an alignment, sans-io: lists of bytes in and out, all randomness as an argument.

The label owner names each of its customers by a pseudonym PRF(k, id) under a key k of this run; the spine is the
sorted list of pseudonyms, padded with random ones. A partner gets the pseudonyms of its own customers, and of nobody
else's, by blinding: it sends x(b H(id)), shuffled among points of nobody, and takes b off the answer x(kb H(id)).
What it finds in the spine it claims, slot by slot, with a token that only the function's value at that id gives: a
partner that did not ask about a customer cannot claim to know them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedprofile.alignment.curve import POINT, SCALAR_BYTES, scalar
from fedprofile.alignment.letters import CLAIM, PSEUDONYM, body_size, size_class
from fedprofile.alignment.suites import Suite
from fedprofile.secagg.codes import remote
from fedprofile.types import digest

Ids = npt.NDArray[np.str_]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Rand = Callable[[int], bytes]
_TAG = 16


@dataclass(frozen=True)
class Match:
    """What a partner found: its rows that stand in the spine, their slots, and the claims to send (size, CLAIM)."""

    rows: Positions = field(repr=False)
    slots: Positions = field(repr=False)
    claims: bytes = field(repr=False)


class Partner:
    """One partner's side. ids (n,): normalised and unique. The same arguments give the same messages again."""

    def __init__(self, ids: Ids, me: str, plan: bytes, suite: Suite, rand: Rand) -> None:
        self._ids, self._me, self._plan, self._suite = [str(i) for i in ids], me, plan, suite
        self._key = scalar(rand(SCALAR_BYTES))
        self.size = size_class(len(self._ids))
        padding = [b"\0" + rand(32) for _ in range(self.size - len(self._ids))]
        self._messages = [message_of(i) for i in self._ids] + padding
        self._order = permutation(self.size, rand)
        self._noise = rand

    def points(self) -> bytes:
        """``size`` blinded points, 32 bytes each; those of customers and those of nobody look alike."""
        return self._suite.blind([self._messages[i] for i in self._order], self._key)

    def match(self, answer: bytes, slots: int, spine_hash: bytes) -> Match:
        """Find this partner's customers in the spine that came with the evaluated points.

        Raises RemoteProtocolError: wrong_length, wrong_spine (another list than the signed one), duplicate_points,
        bad_point.
        """
        if len(answer) != body_size("answer", self.size, slots):
            raise remote("wrong_length", "answer")
        evaluated, spine = answer[: self.size * POINT], answer[self.size * POINT :]
        if hash_of(spine, self._plan) != spine_hash:
            raise remote("wrong_spine", "another list than the signed one")
        names = split(spine, PSEUDONYM)
        slot_of = {name: slot for slot, name in enumerate(names)}
        if len(slot_of) != slots:
            raise remote("duplicate_points", "a pseudonym twice")
        places = [(place, row) for place, row in enumerate(self._order.tolist()) if row < len(self._ids)]
        mine = b"".join(evaluated[place * POINT : (place + 1) * POINT] for place, _ in places)
        values = split(self._suite.unblind(mine, self._key), POINT)
        found: list[tuple[int, int]] = []
        claims = bytearray(self._noise(slots * CLAIM))
        for (_, row), value in zip(places, values, strict=True):
            slot = slot_of.get(_pseudonym(self._plan, self._messages[row], value))
            if slot is not None:
                found.append((row, slot))
                claims[slot * CLAIM : (slot + 1) * CLAIM] = _claim(self._plan, self._me, self._messages[row], value)
        rows, at = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return Match(np.ascontiguousarray(rows), np.ascontiguousarray(at), bytes(claims))

    def __repr__(self) -> str:
        return f"Partner({self._me!r})"


class Owner:
    """The label owner's side. ``values`` (n * 32 bytes) saves the work where they were computed before.

    slots (n,) is each customer's place in the spine of ``size`` pseudonyms; ``hash`` binds the spine.
    """

    def __init__(self, ids: Ids, plan: bytes, suite: Suite, rand: Rand, values: bytes | None = None) -> None:
        self._plan, self._suite = plan, suite
        self._key = scalar(rand(SCALAR_BYTES))
        self._messages = [message_of(str(i)) for i in ids]
        self.values = suite.own(self._messages, self._key) if values is None else values
        self.size = size_class(len(self._messages))
        each = zip(self._messages, split(self.values, POINT), strict=True)
        names = [_pseudonym(plan, m, v) for m, v in each]
        names += split(rand((self.size - len(names)) * PSEUDONYM), PSEUDONYM)
        order = sorted(range(self.size), key=names.__getitem__)
        place = np.empty(self.size, dtype=np.int64)
        place[order] = np.arange(self.size)
        self.slots: Positions = place[: len(self._messages)]
        self._spine = b"".join(names[i] for i in order)
        self.hash = hash_of(self._spine, plan)

    def answer(self, points: bytes) -> bytes:
        """A partner's points under this side's key, in their order, and the spine.

        Raises RemoteProtocolError: wrong_length, duplicate_points, bad_point.
        """
        asked = split(points, POINT)
        if len(set(asked)) != len(asked):
            raise remote("duplicate_points")
        return self._suite.evaluate(points, self._key) + self._spine

    def known(self, party: str, claims: bytes) -> Mask:
        """(size,) which slots a partner proved to know; a wrong token claims nothing.

        Raises RemoteProtocolError("wrong_length").
        """
        if len(claims) != body_size("claims", 0, self.size):
            raise remote("wrong_length", "claims")
        known = np.zeros(self.size, dtype=np.bool_)
        values = split(self.values, POINT)
        for slot, message, value in zip(self.slots.tolist(), self._messages, values, strict=True):
            known[slot] = claims[slot * CLAIM : (slot + 1) * CLAIM] == _claim(self._plan, party, message, value)
        return known

    def __repr__(self) -> str:
        return "Owner()"


def write_views(enough: Mask) -> bytes:
    """One bit a slot, for one partner: it knows the customer, and so do enough others."""
    return np.packbits(enough).tobytes()


def read_views(views: bytes, slots: int) -> Mask:
    """(slots,) bool. Raises RemoteProtocolError("wrong_length")."""
    if len(views) != body_size("views", 0, slots):
        raise remote("wrong_length", "views")
    return np.unpackbits(np.frombuffer(views, np.uint8), count=slots).astype(np.bool_)


def hash_of(spine: bytes, plan: bytes) -> bytes:
    """What every later round of the run is bound to."""
    return digest("spine/2", plan, spine)


def split(data: bytes, width: int) -> list[bytes]:
    """Raises RemoteProtocolError("wrong_length") where the last one would be cut."""
    if len(data) % width:
        raise remote("wrong_length")
    return [data[at : at + width] for at in range(0, len(data), width)]


def message_of(id: str) -> bytes:
    """An id as it is hashed; what pads a list starts with a zero byte, which no normalised id does."""
    return b"\1" + id.encode()


def _pseudonym(plan: bytes, message: bytes, value: bytes) -> bytes:
    return digest("pseudonym/2", plan, message, value)[:PSEUDONYM]


def _claim(plan: bytes, party: str, message: bytes, value: bytes) -> bytes:
    return digest("claim/1", plan, party.encode(), message, value)[:CLAIM]


def permutation(n: int, rand: Rand) -> Positions:
    """Uniform up to a collision of two 128-bit tags."""
    tags = split(rand(n * _TAG), _TAG)
    return np.array(sorted(range(n), key=tags.__getitem__), dtype=np.int64)
