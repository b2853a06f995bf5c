"""How a customer's id becomes what is compared: blinded on the curve (``psi``), or a bare hash (``plain``).

Both are the same oblivious-function interface: the partner blinds, the label owner evaluates under its key, the
partner unblinds; the label owner evaluates its own customers directly. All values have 32 bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol

from fedprofile.alignment.curve import POINT, inverse, mask, masked_hashes
from fedprofile.secagg.codes import remote
from fedprofile.types import digest


class Suite(Protocol):
    """One way to compare ids; ``k`` are keys of X25519, the partner's in blind and unblind, the owner's elsewhere."""

    @property
    def number(self) -> int:
        """The byte that stands for it in a letter."""
        ...

    def blind(self, messages: Sequence[bytes], k: int) -> bytes: ...

    def evaluate(self, points: bytes, k: int) -> bytes: ...

    def unblind(self, points: bytes, k: int) -> bytes: ...

    def own(self, messages: Sequence[bytes], k: int) -> bytes: ...


class Psi:
    """2HashDH (Jarecki, Kiayias, Krawczyk 2014; RFC 9497) on Curve25519: neither side sees an id of the other's."""

    number = 3

    def blind(self, messages: Sequence[bytes], k: int) -> bytes:
        return masked_hashes(messages, k)

    def evaluate(self, points: bytes, k: int) -> bytes:
        return mask(points, k)

    def unblind(self, points: bytes, k: int) -> bytes:
        return mask(points, inverse(k))

    def own(self, messages: Sequence[bytes], k: int) -> bytes:
        return masked_hashes(messages, k)


class Union(Psi):
    """The same function under the keys of all parties together (``fedprofile.alignment.union``)."""

    number = 4


class Plain:
    """No secrecy towards the label owner, who sees a hash of every id of the partner's and can try ids against it."""

    number = 2

    def blind(self, messages: Sequence[bytes], k: int) -> bytes:
        return b"".join(digest("alignment-plain/1", m) for m in messages)

    def evaluate(self, points: bytes, k: int) -> bytes:
        if len(points) % POINT:
            raise remote("wrong_length", "points have 32 bytes each")
        key = k.to_bytes(POINT, "big")
        parts = (points[at : at + POINT] for at in range(0, len(points), POINT))
        return b"".join(hmac.digest(key, p, hashlib.sha256) for p in parts)

    def unblind(self, points: bytes, k: int) -> bytes:
        return points

    def own(self, messages: Sequence[bytes], k: int) -> bytes:
        return self.evaluate(self.blind(messages, k), k)


SUITES: dict[str, Suite] = {"psi": Psi(), "plain": Plain(), "union": Union()}
"""By the name of ``align``; ``simulated`` compares nothing."""
