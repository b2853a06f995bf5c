"""The resilient profile of fps1 a second time: graph, shares, sealing and the five messages; see reference.py."""

from __future__ import annotations

import hmac
from typing import Any

import arithmetic as calc
import reference as ref
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PRIME = 2**256 + 297
SHARE = 33
ROWS = {33: (8, 6)}  # members -> (degree, threshold) of the ring for no colluders; 32 members or fewer: complete
POLICY = ref.POLICY | {"accept_differencing": True}
Shares = dict[str, list[int]]


def quorum(members: int, colluders: int = 0) -> int:
    return (members + colluders) // 2 + 1


class Member(ref.Member):
    """Draws one secret more: what its own share keys come from."""

    def __init__(self, name: str, role: str) -> None:
        super().__init__(name, role)
        self.own = ref.seed(f"own/{name}")
        self.draws = [*self.draws, self.own]


class Circle:
    """Who holds whose shares. ``members`` in wire order."""

    def __init__(self, t0: bytes, members: list[str]) -> None:
        self.members, n = members, len(members)
        self.degree, self.threshold = ROWS.get(n, (n - 1, quorum(n)))
        self.complete = self.degree == n - 1
        self.ring = sorted(members, key=lambda p: hmac.digest(t0, ref.wire_id(p), "sha256"))

    def neighbours(self, party: str) -> list[str]:
        if self.complete:
            return [p for p in self.members if p != party]
        at, n = self.ring.index(party), len(self.ring)
        near = range(1, self.degree // 2 + 1)
        return ref.ordered([self.ring[(at + d) % n] for d in near] + [self.ring[(at - d) % n] for d in near])

    def holders(self, party: str) -> list[str]:
        return ref.ordered([party, *self.neighbours(party)])

    def derived(self, party: str) -> list[str]:
        holders = self.holders(party)
        at = holders.index(party)
        return [holders[(at + d) % len(holders)] for d in range(self.threshold - 1)]

    def point(self, party: str) -> int:
        return self.members.index(party) + 1


def interpolate(x: int, known: dict[int, int]) -> int:
    """Lagrange over GF(2^256 + 297)."""
    total = 0
    for own, value in known.items():
        term = value
        for other in known:
            if other != own:
                term = term * (x - other) * pow(own - other, PRIME - 2, PRIME) % PRIME
        total += term
    return total % PRIME


# -- messages --------------------------------------------------------------------------------------
def items(entries: dict[str, bytes]) -> bytes:
    inside = b"".join(ref.field(ref.wire_id(p)) + ref.field(entries[p]) for p in ref.ordered(entries))
    return ref.number(len(entries), 4) + inside


def survivors(r: dict[str, Any], h: bytes, alive: list[str]) -> bytes:
    return ref.message(12, ref.round_id(r), ref.field(h), ref.party_list(alive))


def agree(member: Member, r: dict[str, Any], h: bytes, alive: list[str]) -> bytes:
    body = ref.message(13, ref.round_id(r), ref.field(ref.wire_id(member.name)), ref.field(h), ref.party_list(alive))
    return body + member.sign("Agree", body)


def signature(member: Member, r: dict[str, Any], h: bytes, alive: list[str]) -> bytes:
    """Of an Agree, without the length before it."""
    return agree(member, r, h, alive)[-64:]


def opening(r: dict[str, Any], h: bytes, alive: list[str], signed: dict[str, bytes], sealed: dict[str, bytes]) -> bytes:
    return ref.message(14, ref.round_id(r), ref.field(h), ref.party_list(alive), items(signed), items(sealed))


def reveal(member: Member, r: dict[str, Any], h: bytes, alive: list[str], shares: dict[str, bytes]) -> bytes:
    head = [ref.round_id(r), ref.field(ref.wire_id(member.name)), ref.field(h), ref.party_list(alive)]
    body = ref.message(15, *head, items(shares))
    return body + member.sign("Reveal", body)


def upload(
    member: Member, r: dict[str, Any], h: bytes, inner: bytes, consent: bytes, checks: bytes, sealed: dict[str, bytes]
) -> bytes:
    fields = [ref.field(consent), ref.field(checks), items(sealed)]
    body = ref.message(11, ref.round_id(r), ref.field(ref.wire_id(member.name)), ref.field(h), *fields)
    return ref.message(11, *fields, member.sign("ResilientUpload", body), ref.field(inner))


# -- one member in one round -----------------------------------------------------------------------
class Part:
    """What a member computes for the round ``r``: keys, shares, and, told who survived, what it signs and reveals."""

    def __init__(self, members: dict[str, Member], t0: bytes, circle: Circle, r: dict[str, Any], name: str) -> None:
        self.members, self.t0, self.circle, self.r, self.name = members, t0, circle, r, name
        self.me, self.h = members[name], ref.round_hash(t0, r)
        self.seed = calc.hkdf_expand(self.share_key(name), b"seed" + self.h)
        self.self_key = calc.hkdf_expand(self.seed, b"self" + self.h)
        self.pads = {p: self._pad(p) for p in circle.neighbours(name)}
        secrets = [self.seed, *self.pads.values()]
        self.checks = b"".join(calc.hkdf_expand(s, b"check" + self.h)[:16] for s in secrets)
        self.shares = self._deal(secrets)

    def share_key(self, peer: str) -> bytes:
        """EK at the round's t."""
        t = self.r["t"]
        if peer != self.name:
            return calc.pair_key(self.t0, self.me.enc, self.members[peer].pk_enc, t)
        key = calc.hkdf_extract(self.t0, self.me.own)
        for _ in range(t):
            key = calc.hkdf_expand(key, b"ratchet")
        return key

    def _pad(self, peer: str) -> bytes:
        key = calc.pair_key(self.t0, self.me.mask, self.members[peer].pk_mask, self.r["t"])
        return calc.hkdf_expand(key, b"mask" + self.h)

    def signed_pads(self) -> list[tuple[bytes, int]]:
        sign = {p: 1 if ref.wire_id(self.name) < ref.wire_id(p) else -1 for p in self.pads}
        return [(self.pads[p], sign[p]) for p in self.pads] + [(self.self_key, 1)]

    def _deal(self, secrets: list[bytes]) -> Shares:
        """Holder -> its shares of every secret."""
        derived = {p: self._derived(p, len(secrets)) for p in self.circle.derived(self.name)}
        dealt: Shares = {p: [] for p in self.circle.holders(self.name)}
        for k, secret in enumerate(secrets):
            known = {0: int.from_bytes(secret, "big")} | {self.circle.point(p): v[k] for p, v in derived.items()}
            for p in dealt:
                dealt[p].append(derived[p][k] if p in derived else interpolate(self.circle.point(p), known))
        return dealt

    def _derived(self, holder: str, count: int) -> list[int]:
        info = b"derived" + self.h + ref.wire_id(self.name) + ref.wire_id(holder)
        stream = calc.keystream(calc.hkdf_expand(self.share_key(holder), info), 0, 0, 32 * count)
        return [int.from_bytes(stream[i : i + 32], "big") for i in range(0, len(stream), 32)]

    def sealed(self) -> dict[str, bytes]:
        """Holder -> bytes, for those who do not derive theirs."""
        return {p: self.seal(p) for p in self.circle.holders(self.name) if p not in self.circle.derived(self.name)}

    def seal(self, holder: str) -> bytes:
        ends = ref.wire_id(self.name) + ref.wire_id(holder)
        key = calc.hkdf_expand(self.share_key(holder), b"share" + self.h + ends)
        plain = b"".join(v.to_bytes(SHARE, "big") for v in self.shares[holder])
        return AESGCM(key).encrypt(bytes(12), plain, self.h + ends)

    def upload(self, y: bytes, audit_head: bytes) -> bytes:
        inner = self.me.upload(self.r, self.h, y, audit_head)
        everyone = self.circle.members
        consent = signature(self.me, self.r, self.h, everyone) if self.circle.complete else b""
        return upload(self.me, self.r, self.h, inner, consent, self.checks, self.sealed())

    def revealed(self, holder: str, alive: list[str]) -> bytes:
        """What ``holder`` gives out of this member's shares: of the seed, and of each pad with a dropped neighbour."""
        seed, *pads = self.shares[holder]
        chosen = [seed] + [v for p, v in zip(self.pads, pads, strict=True) if p not in alive]
        return b"".join(v.to_bytes(SHARE, "big") for v in chosen)
